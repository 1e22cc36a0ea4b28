// Package step names the moments at which a crash leaves one thing done and the next one undone, so that the fault tests can
// end the process there. Nothing but these tests sets [Reached].
package step

// Step is such a moment in the life of a delivery.
type Step string

// The steps that lie between two writes of ours. Those around the action itself are seen by a team's middleware.
const (
	BeforeConfirm    Step = "before-confirm"    // the action is done, the record of deduplication does not say so yet
	BeforePark       Step = "before-park"       // the attempt has failed, the retry queue does not hold it yet
	BeforeAck        Step = "before-ack"        // all deliveries of the event are done or stored, its source does not know yet
	BeforeCheckpoint Step = "before-checkpoint" // what has settled is about to be stored
)

// Reached is called at each step with the event's id, "" where there is no single one, by many goroutines at once. It is set
// before anything runs, or never.
var Reached func(s Step, event string)

// At says that a step is reached.
func At(s Step, event string) {
	if Reached != nil {
		Reached(s, event)
	}
}
