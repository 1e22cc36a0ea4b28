package redis

// Kill makes a queue one of a process that died: it renews nothing from now on.
func Kill(q *RetryQueue) { q.starting.Do(func() {}) }

// KillDriver makes a driver one of a process that died.
func KillDriver(d *Driver) {
	d.stop()
	d.beating.Wait()
}
