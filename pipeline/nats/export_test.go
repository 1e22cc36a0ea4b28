package nats

import "time"

// Suspend holds the renewals of the lease back, as SIGSTOP does, or lets them go on.
func (g *Group) Suspend(is bool) { g.member.suspend.Store(is) }

// SetFlushTimeout sets how long Close waits for the server to confirm the acks.
func SetFlushTimeout(d *Driver, to time.Duration) { d.flushTimeout = to }
