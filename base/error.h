/* Why something failed, as one line for a person: what, where, and what to do
 * about it. Whoever fails fills it in; whoever knows the user shows it. */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

#define ERROR_BYTES 512

struct error {
	char text
	    [ERROR_BYTES]; /* cut if it is longer; no line feed at its end */
};

/* Sets the text and keeps errno. Returns -1, what its caller mostly returns. */
int error_set(struct error *error, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
