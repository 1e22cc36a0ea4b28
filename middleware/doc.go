// Package middleware holds what stands around every action: one Watermill middleware a file. All of them speak through
// the typed outcomes of package event. The order in which they stand is in chain.go.
package middleware
