// Makes each fsync and fdatasync of a process take SLOWDISK_MICROSECONDS longer, through LD_PRELOAD: what a disk in a cloud takes.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

static void wait_for_disk(void) {
	const char *text = getenv("SLOWDISK_MICROSECONDS");
	long us = text ? atol(text) : 0;
	struct timespec t = {us / 1000000, us % 1000000 * 1000};
	nanosleep(&t, 0);
}

int fsync(int fd) {
	int (*next)(int) = dlsym(RTLD_NEXT, "fsync");
	wait_for_disk();
	return next(fd);
}

int fdatasync(int fd) {
	int (*next)(int) = dlsym(RTLD_NEXT, "fdatasync");
	wait_for_disk();
	return next(fd);
}
