package main

import (
	"bytes"
	"regexp"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestOriginServesWhatTheMirrorDoesNot(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out))
	assert.Contains(t, out.String(), `capabilities = ["pull", "resolve"]`)
	assert.Len(t, regexp.MustCompile(`(?m)^registry\.example/team/app:v1 sha256:[0-9a-f]{64}$`).FindAllString(out.String(), -1), 3)

	rows := regexp.MustCompile(`  (\w+)  (\d+) for manifests, (\d+) for blobs, +([\d.]+) MiB`).FindAllStringSubmatch(out.String(), -1)
	require.Len(t, rows, 6, out.String())
	mib := func(i int) float64 {
		n, err := strconv.ParseFloat(rows[i][4], 64)
		require.NoError(t, err)
		return n
	}
	const whole = layerSize / (1 << 20)
	assert.Equal(t, []string{"mirror", "1"}, rows[0][1:3])
	assert.Equal(t, []string{"origin", "0", "0"}, rows[1][1:4])
	assert.GreaterOrEqual(t, mib(0), float64(whole))

	assert.Greater(t, mib(2), 1.0, "the mirror has served a part of the blob")
	assert.Less(t, mib(2), float64(whole), "and has stopped")
	assert.Greater(t, mib(3), 1.0, "the origin has served the rest")
	assert.Equal(t, "0", rows[3][2], "the manifest is already known")

	assert.Equal(t, []string{"mirror", "0", "0"}, rows[4][1:4])
	assert.GreaterOrEqual(t, mib(5), float64(whole))
}
