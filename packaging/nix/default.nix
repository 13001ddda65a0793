# nix-build packaging/nix
# Not built: only the syntax and the version were checked (make lint-packaging).
{
  pkgs ? import <nixpkgs> { },
}:

pkgs.stdenv.mkDerivation {
  pname = "forwarder";
  version = builtins.head (
    builtins.match ".*\nVERSION := ([0-9.]+)\n.*" (builtins.readFile ../../Makefile)
  );
  src = pkgs.lib.cleanSource ../..;

  nativeBuildInputs = [ pkgs.pkg-config ];
  buildInputs = [ pkgs.inih ];

  enableParallelBuilding = true;
  installFlags = [
    "PREFIX=${placeholder "out"}"
    "SYSCONFDIR=${placeholder "out"}/etc"
  ];
  # The units read /etc/forwarder, which is not the package's.
  postInstall = ''
    find $out/lib $out/share -type f -exec sed -i "s|$out/etc/forwarder|/etc/forwarder|g" {} +
    rmdir $out/etc/forwarder $out/etc
  '';

  meta = {
    description = "Keeps a virtual machine on the network while its daemon restarts";
    license = pkgs.lib.licenses.mit;
    mainProgram = "forwarder";
    platforms = pkgs.lib.platforms.linux ++ pkgs.lib.platforms.darwin;
  };
}
