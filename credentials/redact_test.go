package credentials

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/pullkit/pullkit/credentials/internal/keys"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestSecretsInKeysAreHidden parses documents with a secret in a key, or in place of one.
// No problem, note, credential or error shows the secret.
func TestSecretsInKeysAreHidden(t *testing.T) {
	const secret = "S3cretPassw0rd"
	login := encodeAuth("user", secret)
	for _, key := range []string{
		"user:" + secret, "user:" + secret + "@r.io", "https://user:" + secret + "@r.io/team", "https://user:" + secret, "oci:user:" + secret, "docker://user:" + secret + "/x",
		"user:a@" + secret, "user:" + secret + ",r.io", "r.io,user:" + secret, " user:" + secret, "\"user:" + secret + "\"", "r.io user:" + secret, "user=" + secret, "r.io=" + secret,
		"r.io:" + secret, "r.io:" + secret + "/team", secret, "r.io/" + secret, login, "https://" + login, "r.io/" + login, "Basic " + login, "Bearer " + login, "https://r.io?token=" + secret,
		"r.io?token=" + secret, "https://r.io/team?x=1&token=" + secret, "https://r.io?" + secret, "https://r.io#" + secret, "r.io/#token=" + secret, "r.io;token=" + secret, "r.io&token=" + secret,
		"ghp_" + secret, "r.io/team/app:" + secret, "<user:" + secret + ">", "user:" + secret + ":r.io", "r.io\\user:" + secret, "(user:" + secret + ")", "r.io/x=" + secret,
	} {
		for _, rules := range []Rules{{}, {Kubelet: true}} {
			for _, entry := range []any{map[string]string{"auth": "dTpw"}, map[string]string{}, "x", []string{}, map[string]any{"auths": map[string]any{key: map[string]string{"auth": "dTpw"}}}} {
				document, err := json.Marshal(map[string]any{"auths": map[string]any{key: entry}, "credHelpers": map[string]string{key: "../x"}})
				require.NoError(t, err)
				c, err := ParseFile(document, "config.json", rules)
				require.NoError(t, err)
				said := []any{errors.Join(Problems(c)...), Problems(c)}
				for note := range c.Explain(reference.MustParse("r.io/team/app")) {
					said = append(said, note)
				}
				for cred := range c.All() {
					said = append(said, cred.Origin)
				}
				for _, what := range said {
					text := fmt.Sprintf("%v %+v", what, what)
					for _, part := range []string{secret, secret[:8], login, login[:12], "token=S"} {
						assert.NotContains(t, text, part, "key %q", key)
						assert.NotContains(t, text, keys.Fold(part), "key %q", key)
					}
				}
			}
		}
		for _, err := range []error{
			func() error { _, err := Login(key, "u", Conceal("p")); return err }(),
			func() error {
				_, err := DockerConfig{Server: key, Username: "u", Password: Conceal("p")}.JSON()
				return err
			}(),
			func() error { _, err := Match(key, "r.io/x", Rules{}); return err }(),
		} {
			if err != nil {
				assert.NotContains(t, err.Error(), secret, "key %q", key)
				assert.NotContains(t, err.Error(), login, "key %q", key)
			}
		}
	}
	for _, key := range []string{
		"r.io", "r.io:5000", "https://r.io/v2/", "localhost:5000/team", "*.r.io", "r?io", "r[a-c].io/team", "r.io/team/app:v1.2", "r.io/team/app:latest", "[::1]:5000", "::1", "fe80::1", "R.IO/Team",
		"docker://r.io", "oci:r.io/team", "https;//r.io", "a.example,r.io", "registry:5000", "123456789012.dkr.ecr.us-east-1.amazonaws.com/team", "r.io/0123456789abcdef0123456789abcdef01234567", "registry-?.example/x",
		"", "*", "r.io:50??", "xn--bcher-kva.example", "r.io/team ", "\u200br.io", "index.docker.io", "ghcr.io/Team/App",
	} {
		assert.Equal(t, key, keys.Redact(key), "nothing is hidden of a registry's name")
	}
}

// TestHiddenKeysAreNotWritten holds that MarshalConfig does not write a key of which a part
// is hidden, because it would be another key.
func TestHiddenKeysAreNotWritten(t *testing.T) {
	c, err := ParseFile([]byte(`{"auths":{"https://r.io?token=s3cret":{"auth":"dTpw"},"s.io":{"auth":"dTpw"}}}`), "config.json", Rules{})
	require.NoError(t, err)
	data, dropped, err := MarshalConfig(c)
	require.NoError(t, err)
	assert.Len(t, dropped, 1)
	assert.NotContains(t, string(data), "r.io")
	assert.Contains(t, string(data), "s.io")
}
