package reference_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/reference"
)

// TestNamesFromTestsOfOtherProjects: the familiar form of each name parses to the same
// name.
func TestNamesFromTestsOfOtherProjects(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("testdata", "vectors", "field", "peers.json"))
	require.NoError(t, err)
	var doc struct {
		Cases []struct {
			ID       string
			Input    struct{ Name string }
			Expected struct{ Familiar string }
		}
	}
	require.NoError(t, json.Unmarshal(data, &doc))
	require.NotEmpty(t, doc.Cases)
	for _, c := range doc.Cases {
		ref, err := reference.Parse(c.Input.Name)
		require.NoError(t, err, c.ID)
		assert.Equal(t, c.Expected.Familiar, ref.Familiar(), c.ID)
		assert.Equal(t, ref, reference.MustParse(ref.Familiar()), c.ID)
	}
}
