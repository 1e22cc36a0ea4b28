package dispatch

import (
	"context"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/pipeline/window"
)

// TestNoLaneIsKeptOfWhatIsBuried resumes the only delivery of a lane, which cannot run.
func TestNoLaneIsKeptOfWhatIsBuried(t *testing.T) {
	t.Parallel()
	for name, poison := range map[string]string{"its action is not declared any more": "", "it is poison": "it ended the process three times"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			buried := 0
			d, err := New(Config{
				Lanes:      []Lane{{Observer: "gone", Action: "a", Name: "Order/7", Parked: 1}},
				DeadLetter: func(context.Context, *event.Delivery) error { buried++; return nil },
			})
			require.NoError(t, err)
			parked := &event.Delivery{Event: &event.Event{ID: "1"}, Observer: "gone", Action: "a", Lane: "Order/7"}
			msg := message.NewMessageWithContext(event.NewContext(t.Context(), parked), "1", nil)
			if poison != "" {
				msg.Metadata.Set(window.MetadataPoison, poison)
			}
			d.dispatch(t.Context(), msg)
			require.Equal(t, 1, buried)
			require.Zero(t, d.parked.any.Load())
		})
	}
}
