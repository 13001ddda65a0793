/* Why something failed, as one line for the user: what, where, and what to do
 * about it. The function that fails sets it; a caller near main() prints it. */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

#define ERROR_BYTES 512

/* Longer text is cut. There is no line feed at its end. */
struct error {
	char text[ERROR_BYTES];
};

/* Sets the text and keeps errno. Returns -1, for the caller to return. */
int error_set(struct error *error, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
