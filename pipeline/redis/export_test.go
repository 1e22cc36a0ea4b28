package redis

import "time"

// Kill makes a queue one of a process that died: it renews nothing from now on.
func Kill(q *RetryQueue) { q.starting.Do(func() {}) }

// KillDriver makes a driver one of a process that died.
func KillDriver(d *Driver) {
	d.stop()
	d.beating.Wait()
}

// LoseAnswer makes a driver one that did not get the last answer of the server, and returns the name of its consumer.
func LoseAnswer(d *Driver) string {
	d.unsure, d.wary = true, time.Now().Add(time.Minute)
	return d.consumer
}
