package nats

// Suspend holds the renewals of the lease back, as SIGSTOP does, or lets them go on.
func (g *Group) Suspend(is bool) { g.member.suspend.Store(is) }
