// Package dispatch fans one stream of events out to the actions of observers. It is a message.Subscriber with one topic
// an action, "<observer>/<action>": a router handler subscribes to it as to any other.
//
// An event is decoded once and each condition evaluated once, where it can hold at all. Every delivery enters the lane of
// its (action, entity): a lane runs one delivery at a time, in order; lanes run side by side. The upstream message is acked when all its
// deliveries have settled.
//
// What goes on with a lane is the goroutine in which its delivery ended, so that an event costs one goroutine, which is
// the router's: [Dispatcher.Settle] stands outermost around every handler. Start reading at dispatcher.go.
package dispatch
