/* Defaults and texts that differ from system to system: one file for each. */
#ifndef CONFIG_DEFAULTS_H
#define CONFIG_DEFAULTS_H

/* Of [network] endpoint. Empty: this system has no usual one. */
extern const char defaults_network[];

/* A command line as it can be typed, and the same as lines of --help. */
extern const char defaults_usage[];
extern const char defaults_example[];

#endif
