package dispatch

import "github.com/fraiseql/observer/event"

// match returns the observers that want e.
func (d *Dispatcher) match(e *event.Event) []*route {
	var wanted []*route
	for _, r := range d.index.find(e) {
		ok, err := true, error(nil)
		if r.Match != nil {
			ok, err = r.Match(e)
		}
		ok = ok && err == nil
		if r.Matched != nil {
			r.Matched(ok, err)
		}
		if ok {
			wanted = append(wanted, r)
		}
	}
	return wanted
}
