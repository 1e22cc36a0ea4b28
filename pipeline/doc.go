// Package pipeline assembles a topology and runs it. The main flow, on one screen:
//
//	config.Config ──Compile──► Plan            conditions and actions, checked without a network      plan.go
//	Plan ──New──► Pipeline ──Run──►            the transport that the file names                      pipeline.go
//	   postgres: lease ─► change log, retry queue, dead letters, for as long as this process leads    postgres.go
//	   nats: a bridge (lease ─► change log ─► relay ─► stream), a worker of the stream, or both       nats.go, bridge.go
//	   redis: a worker of a stream                                                                    streams.go
//	   in_memory: NDJSON ─► broker, retry heap, dead letters, until all is settled                    input.go
//	workers share what they do beside serve:                                                          worker.go
//	all end in serve:                          sources ─► dispatch ─► one router handler an action    serve.go
//
// A topology is nothing but the sources (windowed subscribers) and the stores that serve is given: the router, the
// middleware and the handlers do not know where events come from.
package pipeline
