// Package event holds the words that every other package speaks: an [Event] (one change of one entity), a [Delivery]
// (one event for one action of one observer) and the outcomes of an attempt. Start reading at event.go.
package event
