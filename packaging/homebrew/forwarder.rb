# For Homebrew. Not built on macOS: only the syntax and the version were checked
# (make lint-packaging). Before a release, OWNER and sha256 need their values:
#     brew install --HEAD ./packaging/homebrew/forwarder.rb
# The service reads $(brew --prefix)/etc/forwarder/forwarder.ini:
#     brew services start forwarder
# A service block knows sockets of IP only. Where launchd is to hold the guest's
# socket, use a plist in share/forwarder/launchd instead (docs/service.md).
class Forwarder < Formula
  desc "Keeps a virtual machine on the network while its daemon restarts"
  homepage "https://github.com/OWNER/forwarder"
  url "https://github.com/OWNER/forwarder/archive/refs/tags/v0.1.0.tar.gz"
  sha256 "0000000000000000000000000000000000000000000000000000000000000000"
  license "MIT"
  head "https://github.com/OWNER/forwarder.git", branch: "main"

  depends_on "pkgconf" => :build
  depends_on "inih"

  def install
    system "make", "install-strip", "PREFIX=#{prefix}", "SYSCONFDIR=#{etc}"
  end

  service do
    run [opt_bin/"forwarder", "-c", etc/"forwarder/forwarder.ini"]
    keep_alive true
    # Launchd slows down background processes; throughput of socket_vmnet halves.
    process_type :interactive
    error_log_path var/"log/forwarder.log"
  end

  test do
    system bin/"forwarder", "--check", "-n", "unix:#{testpath}/daemon.sock"
  end
end
