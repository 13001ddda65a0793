# GNU make 3.81 suffices. `make help` lists the targets.
.DEFAULT_GOAL := all

# Reading this file runs pkg-config, which must find what setup installs. So
# `make setup demo` runs setup first and then a second make for the demo.
OTHER_GOALS := $(filter-out setup,$(MAKECMDGOALS))
ifneq ($(filter setup,$(MAKECMDGOALS)),)

setup: ## install what the other goals on the line need (make setup test); silent if nothing is missing
	@tools/setup $(OTHER_GOALS)
	@$(if $(OTHER_GOALS),$(MAKE) --no-print-directory $(OTHER_GOALS))

$(OTHER_GOALS): setup
	@:

.PHONY: setup $(OTHER_GOALS)

else

VERSION := 0.1.0
UNAME := $(shell uname -s)
CC ?= cc
ifeq ($(origin CC),default)
CC := cc
endif
PKG_CONFIG ?= pkg-config
PYTHON ?= python3

# Where install puts things, below DESTDIR. Each can be set, by itself.
DESTDIR ?=
PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
BINDIR ?= $(PREFIX)/bin
LIBEXECDIR ?= $(PREFIX)/lib/forwarder
MANDIR ?= $(PREFIX)/share/man
DOCDIR ?= $(PREFIX)/share/doc/forwarder
UNITDIR ?= $(PREFIX)/lib/systemd/system
USERUNITDIR ?= $(PREFIX)/lib/systemd/user
SYSUSERSDIR ?= $(PREFIX)/lib/sysusers.d
BASHCOMPDIR ?= $(PREFIX)/share/bash-completion/completions
ZSHCOMPDIR ?= $(PREFIX)/share/zsh/site-functions
FISHCOMPDIR ?= $(PREFIX)/share/fish/vendor_completions.d
LAUNCHDDIR ?= $(PREFIX)/share/forwarder/launchd
PLACES := DESTDIR SYSCONFDIR BINDIR LIBEXECDIR MANDIR DOCDIR UNITDIR \
	USERUNITDIR SYSUSERSDIR BASHCOMPDIR ZSHCOMPDIR FISHCOMPDIR LAUNCHDDIR

ifeq ($(UNAME),Darwin)
SYSTEM := macos
OTHER_SYSTEM := linux
PLATFORM_FLAGS := -D_DARWIN_C_SOURCE
else
SYSTEM := linux
OTHER_SYSTEM := macos
PLATFORM_FLAGS := -D_GNU_SOURCE
endif

# Each variant has its own folder of objects: SAN=thread, SAN=address,undefined,
# and PORTABLE=1, which builds *_plain.c files instead of this system's own.
comma := ,
empty :=
space := $(empty) $(empty)
SAN ?=
PORTABLE ?=
VARIANT := $(subst $(space),-,$(strip \
	$(subst $(comma),-,$(SAN)) $(if $(PORTABLE),portable)))
ifeq ($(VARIANT),)
VARIANT := plain
endif
B := build/$(VARIANT)
# A folder of their own: "forwarder" is both the program and a source folder.
O := $(B)/objects
PROGRAM := $(if $(filter plain,$(VARIANT)),build,$(B))/forwarder

CFLAGS ?= -O2 -g
# Empty by default, because other compilers have other warnings; lint sets it.
WERROR ?=
WARN := -std=c11 -Wall -Wextra $(WERROR) -Wshadow -Wstrict-prototypes \
	-Wmissing-prototypes -Wpointer-arith -Wcast-qual -Wwrite-strings \
	-Wvla -Wformat=2 -Wundef
SAN_FLAGS := $(if $(SAN),-fsanitize=$(SAN) -fno-sanitize-recover=all \
	-fno-omit-frame-pointer -O1)
# A buffer overrun ends the process before it can be exploited. Left out with a
# sanitizer, which detects more, and if the compiler refuses these flags;
# _FORTIFY_SOURCE without optimisation makes glibc warn. The compiler is tried
# once, when the first target needs the answer.
HARDENING := -fstack-protector-strong $(if $(filter linux,$(SYSTEM)),-fPIE) \
	$(if $(filter-out -O0,$(filter -O%,$(CFLAGS))),\
		-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)
HARDEN = $(eval HARDEN := $(if $(SAN),,$(shell echo | $(CC) -Werror \
	$(CFLAGS) $(HARDENING) -E -x c - >/dev/null 2>&1 && \
	echo '$(HARDENING)')))$(HARDEN)
HARDEN_LINK = $(if $(filter -fPIE,$(HARDEN)),$(ELF_HARDENING))
ELF_HARDENING := -pie -Wl,-z,relro,-z,now
CPPFLAGS_ALL := -I. $(PLATFORM_FLAGS) -DVERSION='"$(VERSION)"' \
	$(shell $(PKG_CONFIG) --cflags inih 2>/dev/null) $(CPPFLAGS)
CFLAGS_ALL = $(HARDEN) $(CFLAGS) $(WARN) $(SAN_FLAGS) -pthread
LDFLAGS_ALL = $(HARDEN_LINK) $(LDFLAGS)
LIBS := $(shell $(PKG_CONFIG) --libs inih 2>/dev/null)
CHECK_CFLAGS := $(shell $(PKG_CONFIG) --cflags check 2>/dev/null)
CHECK_LIBS := $(shell $(PKG_CONFIG) --libs check 2>/dev/null)

# *_linux.c and *_macos.c are built on that system only; *_plain.c is built on
# systems that have no file of their own.
FOLDERS := base framing keepalive reconnect status config guest forwarder
NOT_FOREIGN := $(filter-out %_$(OTHER_SYSTEM).c,\
	$(foreach d,$(FOLDERS),$(sort $(wildcard $(d)/*.c))))
NATIVE := $(filter %_$(SYSTEM).c,$(NOT_FOREIGN))
PLAIN := $(filter %_plain.c,$(NOT_FOREIGN))
SOURCES := $(filter-out $(if $(PORTABLE),\
	$(PLAIN:%_plain.c=%_$(SYSTEM).c),\
	$(NATIVE:%_$(SYSTEM).c=%_plain.c)),$(NOT_FOREIGN))
OBJECTS := $(SOURCES:%.c=$(O)/%.o)
PARTS := $(filter-out $(O)/forwarder/main.o,$(OBJECTS))

# tests/*_test.c are suites, each linked with tests/support/*.c. Any other C
# file in tests/ or tests/integration/ is a program of its own.
TEST_SOURCES := $(sort $(wildcard tests/*_test.c))
HELPER_SOURCES := $(sort $(filter-out %_test.c,$(wildcard tests/*.c)) \
	$(wildcard tests/integration/*.c))
SUPPORT_SOURCES := $(sort $(wildcard tests/support/*.c))
T ?=
SUITES := $(patsubst %.c,$(B)/%,$(if $(T),tests/$(T)_test.c,$(TEST_SOURCES)))
HELPERS := $(patsubst %.c,$(B)/%,$(HELPER_SOURCES))
SUPPORT := $(patsubst %.c,$(O)/%.o,$(SUPPORT_SOURCES))

# The first finding of a sanitizer ends the process. By default ThreadSanitizer
# sleeps for a second when a program with threads exits.
ifneq ($(SAN),)
TSAN_OPTIONS ?= halt_on_error=1:second_deadlock_stack=1:atexit_sleep_ms=0
TSAN_OPTIONS := $(TSAN_OPTIONS):suppressions='$(CURDIR)/tools/tsan.suppressions'
ASAN_OPTIONS ?= halt_on_error=1:detect_stack_use_after_return=1
UBSAN_OPTIONS ?= halt_on_error=1:print_stacktrace=1
export TSAN_OPTIONS ASAN_OPTIONS UBSAN_OPTIONS
endif
# Time limits of tests only catch a test that hangs: wide enough for a busy
# machine.
CK_TIMEOUT_MULTIPLIER ?= 5
export CK_TIMEOUT_MULTIPLIER
# V=1 shows the commands whole.
V ?=
Q := $(if $(V),,@)
say = @$(if $(V),:,echo "  $(1)")
# The environment of the test and benchmark programs.
RUN := $(if $(SAN),SKIP="plain-build $(SKIP)") BUILD='$(CURDIR)/$(B)' FORWARDER='$(CURDIR)/$(PROGRAM)'

all: $(PROGRAM) ## build build/forwarder (SAN=, PORTABLE=1: build/VARIANT/forwarder)

$(PROGRAM): $(OBJECTS) $(B)/flags $(B)/parts
	$(call say,LINK $@)
	$(Q)$(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) -o $@ $(OBJECTS) $(LIBS)

$(B)/libparts.a: $(PARTS) $(B)/parts
	@rm -f $@
	$(call say,AR   $@)
	$(Q)$(AR) rcs $@ $(PARTS)

$(O)/%.o: %.c $(B)/flags
	@mkdir -p $(@D)
	$(call say,CC   $@)
	$(Q)$(CC) $(CPPFLAGS_ALL) $(if $(filter tests/%,$<),$(CHECK_CFLAGS)) \
		$(CFLAGS_ALL) -MMD -MP -c -o $@ $<

# Before the general rule: make 3.81 uses the first rule that matches.
$(B)/tests/%_test: $(O)/tests/%_test.o $(SUPPORT) $(B)/libparts.a
	@mkdir -p $(@D)
	$(call say,LINK $@)
	$(Q)$(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) -o $@ $^ $(LIBS) $(CHECK_LIBS)

$(B)/tests/%: $(O)/tests/%.o $(B)/libparts.a
	@mkdir -p $(@D)
	$(call say,LINK $@)
	$(Q)$(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) -o $@ $^ $(LIBS)

# The shells' completion: the functions with the table of options and keys.
COMPLETION := $(patsubst tools/%,build/%,\
	$(filter-out %.c,$(wildcard tools/completion/*)))
completion: $(COMPLETION) ## build/completion/, for bash, zsh and fish

$(B)/tools/completion: $(O)/tools/completion/table.o $(B)/libparts.a
	@mkdir -p $(@D)
	$(call say,LINK $@)
	$(Q)$(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) -o $@ $^ $(LIBS)

build/completion/%: tools/completion/% $(B)/tools/completion
	@mkdir -p $(@D)
	$(call say,GEN  $@)
	$(Q)$(B)/tools/completion >$@.table && sed -e '/^@TABLE@$$/r $@.table' \
		-e '/^@TABLE@$$/d' $< >$@ && rm -f $@.table

# Reports missing tools before the compiler fails.
define need_tools
@missing=; \
echo '#include <stdio.h>' | $(CC) -E -x c - >/dev/null 2>&1 || \
	missing=" a C compiler with its headers ($(CC)),"; \
$(if $(LIBS),:,command -v $(PKG_CONFIG) >/dev/null || \
	missing="$$missing $(PKG_CONFIG),"; \
	missing="$$missing inih,"); \
test -z "$$missing" || { \
	echo "building needs$${missing%,}: run make setup" >&2; exit 1; }
endef
$(SUITES:$(B)/%=$(O)/%.o) $(SUPPORT): | $(B)/check
$(B)/check:
	@$(if $(CHECK_LIBS),:,\
		echo "the unit tests need check: run make setup unit" >&2; exit 1)

# These files are written only when their content changes. New flags rebuild
# everything; an added or removed source file links again.
quote = '$(subst ','\'',$(1))'
define remember
@mkdir -p $(@D)
@printf '%s\n' $(call quote,$(1)) > $@.$$$$; \
	if cmp -s $@.$$$$ $@; then rm -f $@.$$$$; else mv -f $@.$$$$ $@; fi
endef
$(B)/flags: FORCE
	$(need_tools)
	$(call remember,$(CC) $(CPPFLAGS_ALL) $(CHECK_CFLAGS) $(CFLAGS_ALL) $(LDFLAGS_ALL) $(LIBS))
$(B)/parts: FORCE
	$(call remember,$(OBJECTS))
FORCE:

demo: all $(HELPERS) ## half a minute of traffic through ten kills of a stand-in daemon
	@$(RUN) $(B)/tests/demo $(PROGRAM)
	@$(RUN) $(B)/tests/demo --exec $(PROGRAM)

unit: $(SUITES) ## the unit tests (T=link: only tests/link_test.c; REPEAT=1000)
	@tools/unit $(SUITES)

test: unit all $(HELPERS) ## the unit tests, then integration tests with real programs (ARGS=)
	@$(RUN) tests/integration/run $(ARGS)

FUZZ_SECONDS ?= 10
FUZZERS := $(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/*.c))
fuzz: ## libFuzzer on tests/fuzz/*.c, FUZZ_SECONDS=10 each; needs clang
	@$(if $(FUZZERS),$(MAKE) --no-print-directory VARIANT=fuzz CC=clang \
		SAN=fuzzer-no-link$(comma)address$(comma)undefined fuzz-run,\
		echo "fuzz: no fuzzer in tests/fuzz")

fuzz-run: $(FUZZERS:%=$(B)/fuzz/%)
	@for name in $(FUZZERS); do \
		echo "  FUZZ $$name"; mkdir -p $(B)/corpus/$$name && \
		$(B)/fuzz/$$name -verbosity=0 -print_final_stats=1 -max_total_time=$(FUZZ_SECONDS) \
			-artifact_prefix=$(B)/$$name- $(B)/corpus/$$name \
			$$(ls -d tests/fuzz/corpus/$$name 2>/dev/null) || exit 1; \
	done

$(B)/fuzz/%: $(O)/tests/fuzz/%.o $(B)/libparts.a
	@mkdir -p $(@D)
	$(call say,LINK $@)
	$(Q)$(CC) $(CFLAGS_ALL) -fsanitize=fuzzer $(LDFLAGS_ALL) -o $@ $^ $(LIBS)

model: ## model-check the link's protocol, and check that broken variants fail; needs spin
	@tests/model/run

mutants: ## make small wrong changes, list those that no suite notices (ARGS=)
	@$(PYTHON) tools/mutants $(ARGS)

bench: all ## compare speed with a minimal and a naive program (ARGS=)
	@$(RUN) bench/run $(ARGS)

bench-guest: all ## iperf3 in a real guest, with and without the forwarder
	@$(RUN) bench/guest $(ARGS)

bench-container: all ## iperf3 between two containers, compared with QEMU hubs
	@$(RUN) bench/container $(ARGS)

fresh: ## make setup demo, make setup test and the Debian package in a new Debian in a folder (WHO=root, ARGS=); needs root
	@tools/setup fresh
	@tools/fresh $(WHO)

# The checks of lint; each is also a target. All run even if one fails. A
# missing tool is reported; with CI=true it is a failure.
LINTS := lint-gcc lint-clang lint-rules lint-format lint-cppcheck lint-docs \
	lint-hardening lint-packaging
lint: ## gcc and clang warnings, thread safety, cppcheck, format, project rules, docs
	@$(MAKE) --no-print-directory -k $(LINTS)

C_FILES := $(sort $(foreach d,$(FOLDERS) tests tests/support tests/integration \
	tests/fuzz bench tools tools/completion,$(wildcard $(d)/*.[ch])))
LINT_SOURCES := $(NOT_FOREIGN) \
	$(filter tests/%.c bench/%.c tools/completion/%.c,$(C_FILES))
need = command -v $(1) >/dev/null || { \
	echo "$@: not checked, $(1) is missing (make setup)" >&2; \
	test "$$CI" != true; exit; }

lint-gcc:
	@$(call need,gcc); $(MAKE) --no-print-directory VARIANT=lint/gcc \
		CC=gcc WERROR=-Werror lint-objects

# Clang checks which locks each function holds.
lint-clang:
	@$(call need,clang); $(MAKE) --no-print-directory VARIANT=lint/clang \
		CC=clang WERROR="-Werror -Wthread-safety" lint-objects lint-tidy

lint-objects: $(LINT_SOURCES:%.c=$(O)/%.o)

lint-tidy: $(NOT_FOREIGN:%.c=$(O)/%.tidy)

# Depends on the object, whose own dependencies include the headers.
$(O)/%.tidy: %.c $(O)/%.o .clang-tidy
	$(call say,TIDY $<)
	@$(call need,clang-tidy); clang-tidy --quiet $< -- -std=c11 $(CPPFLAGS_ALL) >$@.log 2>&1 || \
		{ cat $@.log >&2; exit 1; }; touch $@

lint-rules:
	@$(PYTHON) tools/lint-rules

lint-format:
	@$(call need,clang-format); status=0; for file in $(C_FILES); do \
		clang-format $$file | cmp -s - $$file || \
		{ echo "$$file: not formatted: run make format" >&2; status=1; }; \
	done; exit $$status

lint-cppcheck:
	@$(call need,cppcheck); mkdir -p build/lint/cppcheck && \
	cppcheck --quiet --std=c11 --enable=warning,performance,portability \
		--error-exitcode=1 --inline-suppr --library=posix --library=gnu \
		--suppressions-list=tools/cppcheck.suppressions \
		--cppcheck-build-dir=build/lint/cppcheck \
		-I. $(PLATFORM_FLAGS) -DVERSION='"$(VERSION)"' \
		$(NOT_FOREIGN)

lint-docs:
	@$(if $(wildcard docs/*.[158]),$(call need,mandoc); \
		mandoc -T lint -W warning $(wildcard docs/*.[158]),:)
	@$(PYTHON) bench/goals --check README.md docs/performance.md docs/fleet.md

lint-hardening: all
	@$(call need,readelf); found=$$(readelf -hldsW $(PROGRAM)); \
	for mark in 'DYN (' GNU_RELRO BIND_NOW __stack_chk_fail printf_chk; do \
		printf '%s\n' "$$found" | grep -qF "$$mark" || { \
			echo "$(PROGRAM): $$mark is missing" >&2; exit 1; }; \
	done

# Whatever lintian says is a failure.
lint-packaging:
	@$(call need,lintian); $(MAKE) --no-print-directory deb && \
	lintian --allow-root --display-info --pedantic \
		--fail-on error,warning,info,pedantic \
		build/forwarder_$(VERSION)_*.deb
	@$(call need,rpmspec); rpmspec --query --queryformat '%{version}\n' \
		packaging/rpm/forwarder.spec | grep -qxF '$(VERSION)' || \
		{ echo "forwarder.spec: not of version $(VERSION)" >&2; exit 1; }
	@$(call need,ruby); ruby -cw packaging/homebrew/forwarder.rb >/dev/null && \
	grep -qF '/v$(VERSION).tar.gz"' packaging/homebrew/forwarder.rb || \
		{ echo "forwarder.rb: not of version $(VERSION)" >&2; exit 1; }
	@$(call need,nix-instantiate); nix-instantiate --parse \
		--option build-users-group "" packaging/nix/default.nix >/dev/null

format: ## format every C file
	clang-format -i $(C_FILES)

macos: ## compile and link for macOS (arm64, x86_64) with a cross compiler from npm
	@tools/setup macos
	@tools/macos '$(MAKE)'

static: ## build build/static/forwarder, one file that needs no library; Debian
	@tools/setup static
	@tools/static '$(MAKE)'

# Without those that expect glibc's messages or its need of memory.
STATIC_TESTS := libc: roles: daemon_exits stops_under_load
test-static: static $(HELPERS) ## integration tests of the static program (ARGS=)
	@$(RUN) FORWARDER='$(CURDIR)/build/static/forwarder' \
		tests/integration/run $(if $(ARGS),$(ARGS),$(STATIC_TESTS))

PUT_IN_PLACE = @SYSTEM=$(SYSTEM) STRIP='$(STRIP)' $(foreach place,$(PLACES),\
	$(place)=$(call quote,$($(place)))) tools/install
STRIP ?= strip

install: all completion ## install below $(DESTDIR)$(PREFIX), PREFIX=/usr/local
	$(PUT_IN_PLACE) put $(PROGRAM)

install-strip: all completion ## the same, the program without symbols
	$(PUT_IN_PLACE) strip $(PROGRAM)

# With DESTDIR, empty folders are removed too.
uninstall: ## remove what install installed
	$(PUT_IN_PLACE) remove $(PROGRAM)

deb: ## build build/forwarder_VERSION_ARCHITECTURE.deb
	@tools/deb $(VERSION)

clean: ## remove build/
	rm -rf build

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / && !seen[$$1]++ \
		{ printf "  %-15s %s\n", $$1, $$2 }' Makefile

.PHONY: all completion demo unit test fuzz fuzz-run model mutants bench bench-guest \
	bench-container lint $(LINTS) lint-objects lint-tidy format macos static test-static \
	install install-strip uninstall deb clean fresh help $(B)/check FORCE
.SECONDARY:
-include $(wildcard $(O)/*/*.d $(O)/*/*/*.d)

endif
