package config

import (
	"errors"
	"io/fs"
	"regexp"
	"strconv"
)

var bareKey = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// join appends a key to a path: "a" and "b" make "a.b".
func join(path, key string) string {
	if !bareKey.MatchString(key) {
		key = strconv.Quote(key)
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

// at appends an index to a path: "a" and 2 make "a[2]".
func at(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// cause drops the operation and the path from an error of package os.
func cause(err error) error {
	if path, ok := errors.AsType[*fs.PathError](err); ok {
		return path.Err
	}
	return err
}
