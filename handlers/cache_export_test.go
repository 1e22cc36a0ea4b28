package handlers

// UnlinkMatching is for the test with a cluster, which no key of the file names.
var UnlinkMatching = unlinkMatching
