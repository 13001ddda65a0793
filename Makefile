# GNU make 3.81 suffices. `make help` lists the targets.
.DEFAULT_GOAL := all

# What setup installs is looked up while this file is read (pkg-config), so in
# `make setup demo` a second make, started after setup, makes the demo.
OTHER_GOALS := $(filter-out setup,$(MAKECMDGOALS))
ifneq ($(filter setup,$(MAKECMDGOALS)),)

setup: ## install what the goals beside it need (make setup test); silent when all is there
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

PREFIX ?= /usr/local
BINDIR ?= $(PREFIX)/bin
MANDIR ?= $(PREFIX)/share/man
DOCDIR ?= $(PREFIX)/share/doc/forwarder

ifeq ($(UNAME),Darwin)
SYSTEM := macos
OTHER_SYSTEM := linux
PLATFORM_FLAGS := -D_DARWIN_C_SOURCE
else
SYSTEM := linux
OTHER_SYSTEM := macos
PLATFORM_FLAGS := -D_GNU_SOURCE
endif

# One folder of objects a variant: SAN=thread, SAN=address,undefined, and
# PORTABLE=1, which builds the *_plain.c files where this system has its own.
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
# Objects have a folder of their own: forwarder is a program and a room.
O := $(B)/objects
PROGRAM := $(if $(filter plain,$(VARIANT)),build,$(B))/forwarder

CFLAGS ?= -O2 -g
# Empty for whoever builds with a compiler we never saw; lint sets it.
WERROR ?=
WARN := -std=c11 -Wall -Wextra $(WERROR) -Wshadow -Wstrict-prototypes \
	-Wmissing-prototypes -Wpointer-arith -Wcast-qual -Wwrite-strings \
	-Wvla -Wformat=2 -Wundef
SAN_FLAGS := $(if $(SAN),-fsanitize=$(SAN) -fno-sanitize-recover=all \
	-fno-omit-frame-pointer -O1)
# An overrun ends the process before it can be exploited. A sanitizer sees more,
# a compiler that refuses these flags builds without them, and glibc warns of
# _FORTIFY_SOURCE where nothing is optimised. Asked once, by what builds.
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

# A file whose name ends in _linux.c or _macos.c is for that system only;
# its _plain.c sibling is for every system that has no such file.
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

# tests/*_test.c are suites, tests/support/*.c is linked into each, any other
# C file in tests/ or tests/integration/ is a program of its own.
TEST_SOURCES := $(sort $(wildcard tests/*_test.c))
HELPER_SOURCES := $(sort $(filter-out %_test.c,$(wildcard tests/*.c)) \
	$(wildcard tests/integration/*.c))
SUPPORT_SOURCES := $(sort $(wildcard tests/support/*.c))
T ?=
SUITES := $(patsubst %.c,$(B)/%,$(if $(T),tests/$(T)_test.c,$(TEST_SOURCES)))
HELPERS := $(patsubst %.c,$(B)/%,$(HELPER_SOURCES))
SUPPORT := $(patsubst %.c,$(O)/%.o,$(SUPPORT_SOURCES))

# A sanitizer's first finding ends the process, wherever it runs. By itself
# ThreadSanitizer would sleep for a second at the end of a program with threads.
ifneq ($(SAN),)
TSAN_OPTIONS ?= halt_on_error=1:second_deadlock_stack=1:atexit_sleep_ms=0
TSAN_OPTIONS := $(TSAN_OPTIONS):suppressions='$(CURDIR)/tools/tsan.suppressions'
ASAN_OPTIONS ?= halt_on_error=1:detect_stack_use_after_return=1
UBSAN_OPTIONS ?= halt_on_error=1:print_stacktrace=1
export TSAN_OPTIONS ASAN_OPTIONS UBSAN_OPTIONS
endif
# A suite's limits are there to end one that hangs, on a busy machine too.
CK_TIMEOUT_MULTIPLIER ?= 5
export CK_TIMEOUT_MULTIPLIER
# V=1 shows the commands whole.
V ?=
Q := $(if $(V),,@)
say = @$(if $(V),:,echo "  $(1)")
# For the programs that test and measure.
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

# Before the general rule, as make 3.81 takes the first that fits.
$(B)/tests/%_test: $(O)/tests/%_test.o $(SUPPORT) $(B)/libparts.a
	@mkdir -p $(@D)
	$(call say,LINK $@)
	$(Q)$(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) -o $@ $^ $(LIBS) $(CHECK_LIBS)

$(B)/tests/%: $(O)/tests/%.o $(B)/libparts.a
	@mkdir -p $(@D)
	$(call say,LINK $@)
	$(Q)$(CC) $(CFLAGS_ALL) $(LDFLAGS_ALL) -o $@ $^ $(LIBS)

# Told before the first error of a compiler.
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

# Written only when what they hold has changed: other flags rebuild everything,
# a file that came or went links again.
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

demo: all $(HELPERS) ## the main job in half a minute, with stand-ins for guest and daemon
	@$(if $(wildcard tests/demo.c),$(RUN) $(B)/tests/demo $(PROGRAM),\
		echo "demo: tests/demo.c is missing" >&2; exit 1)

unit: $(SUITES) ## the Check suites (T=link: only tests/link_test.c; REPEAT=1000)
	@tools/unit $(SUITES)

test: unit all $(HELPERS) ## unit, then the integration tests against real programs (ARGS=)
	@$(RUN) tests/integration/run $(ARGS)

FUZZ_SECONDS ?= 10
FUZZERS := $(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/*.c))
fuzz: ## libFuzzer on tests/fuzz/*.c (FUZZ_SECONDS=10 each), needs clang
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

model: ## prove the link's protocol, and that the proof can fail; needs spin
	@tests/model/run

mutants: ## small wrong changes, one at a time, that the suites should notice (ARGS=)
	@$(PYTHON) tools/mutants $(ARGS)

bench: all ## measure against the floor and the naive loop (ARGS=)
	@$(RUN) bench/run $(ARGS)

bench-guest: all ## iperf3 inside a real guest, with and without the forwarder
	@$(RUN) bench/guest $(ARGS)

bench-container: all ## iperf3 between two containers, beside two QEMU hubs
	@$(RUN) bench/container $(ARGS)

fresh: ## make setup demo and make setup test on a new Debian in a folder, as root and as a user (WHO=root, ARGS=); needs root
	@tools/setup fresh
	@tools/fresh $(WHO)

# The checks of lint, each of which can be made alone. All are run, however
# many of them fail. A missing tool is told; with CI=true it is a failure.
LINTS := lint-gcc lint-clang lint-rules lint-format lint-cppcheck lint-docs \
	lint-hardening
lint: ## warnings as errors (gcc, clang), thread safety, cppcheck, format, folder arrows
	@$(MAKE) --no-print-directory -k $(LINTS)

C_FILES := $(sort $(foreach d,$(FOLDERS) tests tests/support tests/integration \
	tests/fuzz bench,$(wildcard $(d)/*.[ch])))
LINT_SOURCES := $(NOT_FOREIGN) \
	$(filter tests/%.c bench/%.c,$(C_FILES))
need = command -v $(1) >/dev/null || { \
	echo "$@: not checked, $(1) is missing (make setup)" >&2; \
	test "$$CI" != true; exit; }

lint-gcc:
	@$(call need,gcc); $(MAKE) --no-print-directory VARIANT=lint/gcc \
		CC=gcc WERROR=-Werror lint-objects

# Clang proves which lock every function holds.
lint-clang:
	@$(call need,clang); $(MAKE) --no-print-directory VARIANT=lint/clang \
		CC=clang WERROR="-Werror -Wthread-safety" lint-objects lint-tidy

lint-objects: $(LINT_SOURCES:%.c=$(O)/%.o)

lint-tidy: $(NOT_FOREIGN:%.c=$(O)/%.tidy)

# After the object, which says when a header has changed.
$(O)/%.tidy: %.c $(O)/%.o .clang-tidy
	$(call say,TIDY $<)
	@$(call need,clang-tidy); clang-tidy --quiet $< -- -std=c11 $(CPPFLAGS_ALL) >$@.log 2>&1 || \
		{ cat $@.log >&2; exit 1; }; touch $@

lint-rules:
	@$(PYTHON) tools/lint-rules

lint-format:
	@$(call need,clang-format); status=0; for file in $(C_FILES); do \
		clang-format $$file | cmp -s - $$file || \
		{ echo "$$file: not as clang-format has it (make format)" >&2; status=1; }; \
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
	@$(if $(wildcard docs/*.[15]),$(call need,mandoc); \
		mandoc -T lint -W warning $(wildcard docs/*.[15]),:)
	@$(PYTHON) bench/goals --check README.md docs/performance.md

lint-hardening: all
	@$(call need,readelf); found=$$(readelf -hldsW $(PROGRAM)); \
	for mark in 'DYN (' GNU_RELRO BIND_NOW __stack_chk_fail printf_chk; do \
		printf '%s\n' "$$found" | grep -qF "$$mark" || { \
			echo "$(PROGRAM): no $$mark" >&2; exit 1; }; \
	done

format: ## put every C file into the form that lint wants
	clang-format -i $(C_FILES)

macos: ## compile and link for macOS on both processors with a cross compiler, fetched by npm
	@tools/setup macos
	@tools/macos '$(MAKE)'

install: all ## into DESTDIR and PREFIX=/usr/local
	install -d '$(DESTDIR)$(BINDIR)' '$(DESTDIR)$(DOCDIR)' \
		'$(DESTDIR)$(MANDIR)/man1' '$(DESTDIR)$(MANDIR)/man5'
	install -m 755 $(PROGRAM) '$(DESTDIR)$(BINDIR)/forwarder'
	$(foreach page,$(PAGES),install -m 644 $(page) \
		'$(DESTDIR)$(MANDIR)/man$(subst .,,$(suffix $(page)))/' &&) :
	$(if $(wildcard forwarder.ini),install -m 644 forwarder.ini '$(DESTDIR)$(DOCDIR)/')

# With DESTDIR also the folders, if that leaves them empty.
uninstall: ## take away what install put there
	rm -f '$(DESTDIR)$(BINDIR)/forwarder' '$(DESTDIR)$(DOCDIR)/forwarder.ini'
	$(foreach page,$(PAGES),rm -f \
		'$(DESTDIR)$(MANDIR)/man$(subst .,,$(suffix $(page)))/$(notdir $(page))' &&) :
	@$(if $(DESTDIR),for folder in '$(MANDIR)/man1' '$(MANDIR)/man5' \
		'$(DOCDIR)' '$(BINDIR)'; do \
		(cd '$(DESTDIR)' && rmdir -p ".$$folder") 2>/dev/null; done; :)
	@rmdir '$(DESTDIR)$(DOCDIR)' 2>/dev/null || :

PAGES := $(wildcard docs/*.1 docs/*.5)

clean: ## remove build/
	rm -rf build

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / && !seen[$$1]++ \
		{ printf "  %-15s %s\n", $$1, $$2 }' Makefile

.PHONY: all demo unit test fuzz fuzz-run model mutants bench bench-guest \
	bench-container lint $(LINTS) lint-objects lint-tidy format macos \
	install uninstall clean fresh help $(B)/check FORCE
.SECONDARY:
-include $(wildcard $(O)/*/*.d $(O)/*/*/*.d)

endif
