package window

import "context"

// Starter is told once when the handling of its message begins.
type Starter interface{ Start() }

type starterKey struct{}

// WithStarter returns a copy of a message's context that carries who wants to know when handling begins.
func WithStarter(ctx context.Context, s Starter) context.Context {
	return context.WithValue(ctx, starterKey{}, s)
}

// Started tells the driver of a message, by the message's context, that its handling begins now: until then a crash of
// the process cannot be the message's doing.
func Started(ctx context.Context) {
	if s, ok := ctx.Value(starterKey{}).(Starter); ok {
		s.Start()
	}
}
