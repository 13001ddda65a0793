#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

int
error_set(struct error *error, const char *format, ...)
{
	int saved = errno;
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(error->text, sizeof(error->text), format, arguments);
	va_end(arguments);
	errno = saved;
	return -1;
}
