// Package pipeline assembles a topology and runs it. The main flow, on one screen:
//
//	config.Config ──Compile──► Plan            conditions and actions, checked without a network      plan.go
//	Plan ──New──► Pipeline ──Run──►            the transport that the file names                      pipeline.go
//	   postgres: lease ─► change log, retry queue, dead letters, for as long as this process leads    postgres.go
//	   in_memory: NDJSON ─► broker, retry heap, dead letters, until all is settled                    input.go
//	both end in serve:                         sources ─► dispatch ─► one router handler an action    serve.go
//
// A topology is nothing but the sources (windowed subscribers) and the stores that serve is given: the router, the
// middleware and the handlers do not know where events come from.
package pipeline
