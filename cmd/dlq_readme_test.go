package cmd

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTheDeadLetterCommandsOfTheReadmeWorkAsPrinted(t *testing.T) {
	t.Parallel()
	cfg, db := database(t)
	run(t, db, `alter table core.tb_observer_dead_letter alter column pk_observer_dead_letter restart with 17`)
	for range 3 {
		bury(t, db, "order-shipped", time.Now())
	}
	text, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	_, section, _ := strings.Cut(string(text), "\n## Dead letters\n")
	_, section, _ = strings.Cut(section, "```bash\n")
	block, _, found := strings.Cut(section, "```")
	require.True(t, found)
	ran := map[string]bool{}
	for line := range strings.Lines(block) {
		line, _, _ = strings.Cut(line, "#")
		line, _, _ = strings.Cut(line, ">>")
		args := strings.Fields(line)
		require.Equal(t, []string{"observer", "dlq"}, args[:2])
		ran[args[2]] = true
		succeeds(t, append(args[1:], "--config", cfg)...)
	}
	for _, c := range (&program{}).dlqCommand().Commands() {
		require.True(t, ran[c.Name()], "the README shows no dlq %s", c.Name())
	}
	require.Equal(t, 2, one[int](t, db, `select count(*) from core.tb_observer_dead_letter`), "17 is removed")
}
