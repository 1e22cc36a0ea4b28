// Package nats carries events over NATS JetStream: the event stream and its consumers ([Setup]), a publisher that returns
// when everything is stored ([Publisher]), a windowed reader ([Driver]), and a server inside the process ([StartEmbedded]).
// Start reading at streams.go.
package nats
