package window

import "context"

// attachedContext lives and ends with the message, and carries what the driver attached to it as well.
type attachedContext struct {
	context.Context
	attached context.Context // two contexts are what this type joins
}

func withAttached(ctx, attached context.Context) context.Context {
	if attached == context.Background() {
		return ctx
	}
	return attachedContext{ctx, attached}
}

func (c attachedContext) Value(key any) any {
	if v := c.attached.Value(key); v != nil {
		return v
	}
	return c.Context.Value(key)
}
