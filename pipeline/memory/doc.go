// Package memory is the transport inside the process: a [Broker] with topics and consumer groups, a [RetryQueue] and
// [DeadLetters]. Nothing outlives the process; it serves observer run --input, tests and programs that need no server.
package memory
