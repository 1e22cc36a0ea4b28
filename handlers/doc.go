// Package handlers holds what an observer does with an event: the condition that decides, the templates that say what to
// send, and the actions, one file each. Start reading at action.go.
package handlers
