/*
 * Opens, writes and closes files, nothing else, and prints what that cost this process.
 *
 *     loop FOLDER FILES COUNT
 *
 * COUNT times in turn over FILES files, which are made first; a tenth of COUNT warms up. If FILES is 0, each turn
 * makes, writes, closes and removes a file of its own, and nothing warms up. One line on standard output says "ready";
 * the load begins with a byte on standard input. Prints user, system and elapsed time in microseconds, as one line
 * of JSON.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static char (*names)[64];
static long files;

static void once(long n)
{
	int fd = open(names[n % files], O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0 || write(fd, "x", 1) != 1 || close(fd))
		abort();
}

static void one_of_its_own(long n)
{
	char name[64];
	int fd;

	snprintf(name, sizeof(name), "file-%07ld", n);
	fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, "x", 1) != 1 || close(fd) || unlink(name))
		abort();
}

static long long us(struct timeval t)
{
	return t.tv_sec * 1000000LL + t.tv_usec;
}

int main(int argc, char **argv)
{
	struct rusage before, after;
	struct timespec began, ended;
	long count;

	if (argc != 4 || chdir(argv[1]))
		return 2;
	files = atol(argv[2]);
	count = atol(argv[3]);
	names = malloc(files * sizeof(*names));
	for (long n = 0; n < files; n++) {
		snprintf(names[n], sizeof(*names), "file-%07ld", n);
		once(n);
	}
	for (long n = 0; files && files < count / 10 && n < count / 10; n++)
		once(n);
	puts("ready");
	fflush(stdout);
	getchar();
	getrusage(RUSAGE_SELF, &before);
	clock_gettime(CLOCK_MONOTONIC, &began);
	for (long n = 0; n < count; n++)
		files ? once(n) : one_of_its_own(n);
	clock_gettime(CLOCK_MONOTONIC, &ended);
	getrusage(RUSAGE_SELF, &after);
	printf("{\"user\":%lld,\"system\":%lld,\"elapsed\":%lld}\n",
	       us(after.ru_utime) - us(before.ru_utime), us(after.ru_stime) - us(before.ru_stime),
	       (ended.tv_sec - began.tv_sec) * 1000000LL + (ended.tv_nsec - began.tv_nsec) / 1000);
	return 0;
}
