package credentials

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// FuzzParseConfig holds that what was read can be written and read again: no
// problem is left, and each key keeps its first credential, in the same order.
func FuzzParseConfig(f *testing.F) {
	for _, text := range []string{
		goodDocument, `{"auths":{"https://R.io/v1/":{"auth":"dTpw"},"r.io":{"auth":"dTpx"},"*.io:5000/a/":{"identitytoken":"i"}}}`,
		`{"auths":{"a":{"username":"a:b","password":"c"},"b":{"registrytoken":"r"},"[::1]":{"auth":"Og=="},"é":{"auth":"dTpw"}},"credHelpers":{"r.io":"x"}}`,
		`{"auths":{"\u0000":{},"r[a-c]?.io":{"password":"\ud800"},"x@y":{"auth":"dTr//g=="}}}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ParseConfig(data, "config.json")
		if err != nil {
			return
		}
		written, dropped, err := MarshalConfig(c)
		require.NoError(t, err)
		again, err := ParseConfig(written, "config.json")
		require.NoError(t, err)
		assert.Empty(t, again.Problems())
		before, after := firsts(c), firsts(again)
		require.Len(t, after, len(before))
		for i := range before {
			assert.Equal(t, before[i].Origin.Key, after[i].Origin.Key)
			assert.True(t, before[i].Same(after[i]), "%s", before[i].Origin.Key)
		}
		assert.LessOrEqual(t, len(before)+len(dropped), len(c.table.entries))
	})
}

// firsts returns the first credential of each key.
func firsts(c *Config) (out []Credential) {
	var seen []string
	for _, e := range c.table.entries {
		if !slices.Contains(seen, e.text) {
			seen = append(seen, e.text)
			out = append(out, e.cred)
		}
	}
	return out
}
