// Package faults breaks the running program on purpose and counts what comes out of it.
//
// It holds only tests. Two of them break nothing: orders_test.go sends every kind of change to a receiver, pgbench_test.go
// those of a benchmark. In the others writers change a captured table and journal what COMMIT confirmed (writer_test.go,
// journal_test.go), a receiver notes every request (receiver_test.go), the program runs as a child process that is killed,
// stopped and cut off (process_test.go), or kills itself at a named step (steps_test.go), and a checker compares the two lists (checker_test.go). The scenarios are in the
// other files. They run for a few seconds each, or, with OBSERVER_FAULTS=long in the environment, as long as the promises ask for
// (make faults); the code is the same. A run prints its seed; OBSERVER_FAULTS_SEED sets it.
package faults
