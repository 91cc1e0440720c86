package rounds

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestOfIsAFifthOrAll(t *testing.T) {
	for _, row := range []struct {
		full    int
		fifth   int
		setting string
	}{
		{0, 0, ""}, {1, 1, ""}, {5, 1, ""}, {6, 2, ""}, {200, 40, ""},
		{1, 1, "0"}, {200, 40, "0"},
	} {
		t.Setenv("PULLKIT_ALL_ROUNDS", row.setting)
		assert.Equal(t, row.fifth, Of(row.full), "%d rounds with %q", row.full, row.setting)
		t.Setenv("PULLKIT_ALL_ROUNDS", "1")
		assert.Equal(t, row.full, Of(row.full), "%d rounds, all of them", row.full)
	}
}
