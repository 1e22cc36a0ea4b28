// Package window is a generic windowed puller: a message.Subscriber over a small [Driver]. It fetches only for free
// slots, keeps many messages in flight, acks in batches and drains on shutdown. Start reading at subscriber.go.
package window
