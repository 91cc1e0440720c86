package credentials

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// FuzzParseFile holds that a parsed file can be written and read again: without problems,
// and with the first credential of each key, in the same order.
func FuzzParseFile(f *testing.F) {
	for _, text := range []string{
		goodDocument, `{"auths":{"https://R.io/v1/":{"auth":"dTpw"},"r.io":{"auth":"dTpx"},"*.io:5000/a/":{"identitytoken":"i"}}}`,
		`{"auths":{"a":{"username":"a:b","password":"c"},"b":{"registrytoken":"r"},"[::1]":{"auth":"Og=="},"é":{"auth":"dTpw"}},"credHelpers":{"r.io":"x"}}`,
		`{"auths":{"\u0000":{},"r[a-c]?.io":{"password":"\ud800"},"x@y":{"auth":"dTr//g=="}}}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ParseFile(data, "config.json", Rules{})
		if err != nil {
			return
		}
		written, dropped, err := MarshalConfig(c)
		require.NoError(t, err)
		again, err := ParseFile(written, "config.json", Rules{})
		require.NoError(t, err)
		assert.Empty(t, faults(Problems(again)))
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
func firsts(c *File) (out []Credential) {
	var seen []string
	for _, e := range c.table.entries {
		if !slices.Contains(seen, e.text) {
			seen = append(seen, e.text)
			out = append(out, e.cred)
		}
	}
	return out
}

// TestOddDocumentsAreReadAsByTheKubelet holds how documents are read that the vectors do
// not have.
func TestOddDocumentsAreReadAsByTheKubelet(t *testing.T) {
	for text, want := range map[string][]string{
		`{"auths":{"r.io":{"auth":"dTpw"}},"auths":null}`:                                  nil,
		`{"auths":{"r.io":{"auth":"dTpw"}},"auths":null,"auths":{"s.io":{"auth":"dTpw"}}}`: {"s.io"},
		`{"auths":{"\u212a.io":{"auth":"dTpw"},"K.io":{"auth":"dTpw"}}}`:                   {"k.io"}, // the Kelvin sign is not a letter of a host
	} {
		c, err := ParseFile([]byte(text), "config.json", Rules{})
		require.NoError(t, err, text)
		assert.Equal(t, want, keysOf(&c.table), text)
	}
}

// TestPasswordInAKeyIsHidden holds that the kubelet's rules use a key with a password, and
// that nothing shows the password.
func TestPasswordInAKeyIsHidden(t *testing.T) {
	text := []byte(`{"auths":{"https://user:hunter2@r.io":{"auth":"dTpw"}}}`)
	c, err := ParseFile(text, "config.json", Rules{Kubelet: true})
	require.NoError(t, err)
	creds, errs := collect(t.Context(), c, "r.io/app")
	assert.Empty(t, errs)
	require.Len(t, creds, 1)
	assert.Equal(t, "***@r.io", creds[0].Origin.Key)
	written, dropped, err := MarshalConfig(c)
	require.NoError(t, err)
	assert.NotContains(t, string(written), "r.io", "a reader would refuse such a key")
	assert.Len(t, dropped, 1)
}
