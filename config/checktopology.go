package config

import "slices"

// checkTopology finds switches of [transport] that do not go together.
func (d *decoder) checkTopology() {
	t := &d.cfg.Transport
	if t.RunBridge && t.Transport != "nats" {
		d.wrong("transport.run_bridge", "a bridge fills a NATS stream, and the transport is another", `write transport = "nats", or remove run_bridge`)
	}
	if !t.RunExecutors && !t.RunBridge {
		d.wrong("transport.run_executors", "is false without a bridge: the process would do nothing", "write run_bridge = true, or remove run_executors")
	}
	js := t.NATS.JetStream
	if js.Retention == "interest" && len(js.Groups) > 0 && t.RunExecutors && !slices.Contains(js.Groups, t.NATS.ConsumerName) {
		d.wrong("transport.nats.jetstream.groups", "does not hold the consumer of this process, "+t.NATS.ConsumerName, "add it, or set transport.nats.consumer_name to one of the groups")
	}
	if t.NATS.Embedded && js.Replicas > 1 {
		d.wrong("transport.nats.jetstream.replicas", "the embedded server is alone and keeps one copy", "remove it, or use servers of your own")
	}
}

// readsLog reports whether the command reads the change log, and so needs its database.
func (d *decoder) readsLog() bool {
	t := &d.cfg.Transport
	return d.opts.Needs != NeedsNothing && (t.Transport == "postgres" || t.RunBridge && d.opts.Needs == NeedsAll)
}
