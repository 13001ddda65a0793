/* Defaults and texts that differ from system to system: one file for each. */
#ifndef CONFIG_DEFAULTS_H
#define CONFIG_DEFAULTS_H

/* Of [network] endpoint. Empty: this system has no usual one. */
extern const char defaults_network[];

/* Endpoints for a message to name. */
extern const char defaults_guest_example[];
extern const char defaults_network_example[];

/* Guest endpoints of this system, for --help. */
extern const char defaults_guests[];

/* A command line as it can be typed, and the same as lines of --help. */
extern const char defaults_usage[];
extern const char defaults_example[];

#endif
