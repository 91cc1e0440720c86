package diagnose

import (
	"errors"
	"strings"
	"testing"

	"github.com/pullkit/pullkit/credentials/internal/keys"
	"github.com/pullkit/pullkit/internal/strictjson"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The tests of package credentials hold the hints in the errors that users see. The tests
// here hold what a caller of this package relies on.

// TestGoodInputHasNoHint passes to each function input that is right, or may be right.
func TestGoodInputHasNoHint(t *testing.T) {
	for _, password := range []string{"p", "a b", `it's "`, "\xff\xfe", "{{", "pass$word", "<3", "**", "é", "日本", strings.Repeat("x", 5000)} {
		assert.Empty(t, Login{}.Odd("u", password), "%q", password)
	}
	for _, key := range []string{"r.io", "r.io:5000/team", "*.r.io", "localhost", "[::1]:5000", "docker.io", "https://index.docker.io/v1/"} {
		p, err := keys.Compile(keys.Normalize(key))
		require.NoError(t, err)
		assert.Zero(t, Key(key, p), key)
	}
	top, err := strictjson.Members([]byte(`{"auths":{"r.io":{"auth":"dTpw"}},"credsStore":"pass","HttpHeaders":{"X":"y"}}`))
	require.NoError(t, err)
	assert.Empty(t, Fields(top, false))
	entry := Entry{Key: "r.io", Value: []byte(`{"auth":"dTpw"}`)}
	assert.True(t, entry.HasLogin())
	assert.Empty(t, entry.Within())
	assert.Empty(t, entry.NotAnObject())
	for _, legacy := range []bool{false, true} {
		what, hint := Entry{Key: "r.io", Value: []byte(`{}`)}.Misplaced(legacy)
		assert.Equal(t, NotMisplaced, what)
		assert.Empty(t, hint)
	}
	assert.Empty(t, Misplaced(top))
	assert.Empty(t, Data("@@@"), "not base64, and like nothing that is known")
}

// TestMisplacedSaysWhatIsInPlaceOfAnEntry holds what Misplaced says is in place of an entry.
func TestMisplacedSaysWhatIsInPlaceOfAnEntry(t *testing.T) {
	for _, tt := range []struct {
		entry  Entry
		legacy bool
		want   Misplacement
	}{
		{Entry{Key: "auths", Value: []byte(`{"r.io":{"auth":"dTpw"}}`)}, true, AuthsObject},
		{Entry{Key: "auths", Value: []byte(`{"r.io":{"auth":"dTpw"}}`)}, false, Wrapped},
		{Entry{Key: "value", Value: []byte(`{"auths":{"r.io":{"auth":"dTpw"}}}`)}, true, Wrapped},
		{Entry{Key: "credsStore", Value: []byte(`"pass"`)}, true, ConfigField},
		{Entry{Key: "credsStore", Value: []byte(`"pass"`)}, false, NotMisplaced},
		{Entry{Key: "r.io", Value: []byte(`[{"auth":"dTpw"}]`)}, false, NotMisplaced},
	} {
		what, hint := tt.entry.Misplaced(tt.legacy)
		assert.Equal(t, tt.want, what, "%s", tt.entry.Value)
		assert.Equal(t, what == Wrapped || what == ConfigField, hint != "")
	}
}

// TestKeyHintsConcernTheImagesThatWereMeant holds which images a hint about a key
// concerns.
func TestKeyHintsConcernTheImagesThatWereMeant(t *testing.T) {
	image := func(name string) keys.Name {
		n, err := keys.ParseName(name)
		require.NoError(t, err)
		return n
	}
	for key, tt := range map[string]struct {
		matches bool
		about   string
	}{
		"r.io/v2/_catalog":  {false, "r.io/app"},
		"https://r.io:443":  {true, "r.io/app"},
		"hub.docker.com":    {false, "docker.io/library/nginx"},
		"registry.k8s.com*": {true, "registry.k8s.com/pause"},
	} {
		p, err := keys.Compile(keys.Normalize(key))
		require.NoError(t, err)
		hint := Key(key, p)
		require.NotEmpty(t, hint.Text, key)
		assert.Equal(t, tt.matches, hint.Matches, key)
		found := false
		for _, about := range hint.About {
			found = found || about.Match(image(tt.about)) == keys.Matched
		}
		assert.True(t, found, "%s concerns %s", key, tt.about)
	}
	bad := errors.New("bad")
	assert.ErrorIs(t, BadKey("{r.io}", bad), bad)
	assert.ErrorContains(t, BadKey("{r.io}", bad), "braces")
	assert.Equal(t, bad, BadKey("r.io", bad), "nothing is known of it")
}

// TestManifestCallsSecretForEach holds which objects Manifest passes on, and the errors that
// it returns.
func TestManifestCallsSecretForEach(t *testing.T) {
	const text = "kind: Secret\nmetadata: {name: a}\n---\nkind: secrets\nmetadata: {name: b}\n---\nkind: ConfigMap\n---\nkind: List\nitems: [{kind: Secret, metadata: {name: c}}]\n"
	var calls []string
	refused := errors.New("refused")
	problems := Manifest([]byte(text), func(fields []strictjson.Member, fault error) error {
		for _, f := range fields {
			if f.Key == "metadata" {
				calls = append(calls, string(f.Value))
			}
		}
		if fault != nil {
			return fault
		}
		if strings.Contains(calls[len(calls)-1], `"c"`) {
			return refused
		}
		return nil
	})
	assert.Equal(t, []string{`{"name":"a"}`, `{"name":"b"}`, `{"name":"c"}`}, calls)
	if assert.Len(t, problems, 2) {
		assert.EqualError(t, problems[0], `manifest, document 2: is of kind "secrets": write kind: Secret`)
		assert.ErrorIs(t, problems[1], refused)
	}
}
