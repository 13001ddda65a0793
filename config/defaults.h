/* Defaults and texts that differ from system to system: one file for each. */
#ifndef CONFIG_DEFAULTS_H
#define CONFIG_DEFAULTS_H

/* The default of [network] endpoint. Empty: this system has none. */
extern const char defaults_network[];

/* An example: a command line for an error message, and lines for --help. */
extern const char defaults_usage[];
extern const char defaults_example[];

#endif
