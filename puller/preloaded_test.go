package puller

import (
	"errors"
	"testing"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/index"
	"github.com/pullkit/pullkit/puller/records"
	"github.com/pullkit/pullkit/pullpolicy"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestPreloadedImagesStayUsable holds who may use two names of one content, of which
// one was always there and the other was pulled with a secret.
func TestPreloadedImagesStayUsable(t *testing.T) {
	const content = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
	for _, tt := range []struct {
		name    string
		kubelet Kubelet
		always  bool // AlwaysVerify
		want    bool // the preloaded name may be used
	}{
		{"ours", Kubelet{}, false, true},
		{"the kubelet's", Kubelet{PreloadedByID: true}, false, false},
		{"always verified", Kubelet{}, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			recs, err := records.Open(t.TempDir())
			require.NoError(t, err)
			defer recs.Close()
			config := Config{Records: recs, Kubelet: tt.kubelet}
			if tt.always {
				config.Verify, err = pullpolicy.NewVerification("AlwaysVerify")
				require.NoError(t, err)
			}
			w := newWorld(t, config)
			preloaded := func() error {
				_, err := w.Pull(t.Context(), Request{Image: "x.example/team/app:v1", Policy: pullpolicy.Never})
				return err
			}
			w.runtime.store["x.example/team/app:v1"] = content
			if !tt.always {
				require.NoError(t, preloaded(), "before")
			}

			_, err = w.Pull(t.Context(), Request{Image: "y.example/private/app:v1", Keyring: ringOf(secret("a", "1"))})
			require.NoError(t, err)
			if err = preloaded(); tt.want {
				assert.NoError(t, err)
			} else {
				assert.ErrorIs(t, err, ErrImageNeverPull)
			}
			// Also one that appears later, by another tool.
			w.runtime.store["z.example/team/app:v1"] = content
			_, err = w.Pull(t.Context(), Request{Image: "z.example/team/app:v1", Policy: pullpolicy.Never})
			assert.Equal(t, tt.want, err == nil)

			// The name that was pulled with a secret wants that secret.
			for _, ring := range []credentials.Keyring{nil, ringOf(secret("b", "2"))} {
				_, err = w.Pull(t.Context(), Request{Image: "y.example/private/app:v1", Policy: pullpolicy.Never, Keyring: ring})
				assert.ErrorIs(t, err, ErrImageNeverPull)
			}
			_, err = w.Pull(t.Context(), Request{Image: "y.example/private/app:v1", Policy: pullpolicy.Never, Keyring: ringOf(secret("a", "1"))})
			assert.NoError(t, err)
		})
	}
}

// TestPulledNamesAreNotPreloaded holds in which states a name that no record holds is
// not taken for one that was always there: a pull of it has begun, of whatever tag
// where a digest is asked for, or the record has lost names.
func TestPulledNamesAreNotPreloaded(t *testing.T) {
	const content = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
	other := map[string]records.Access{"y.example/private/app": {Everybody: true}}
	for _, tt := range []struct {
		name, image string
		record      records.Record
		intents     []string
		want        bool
	}{
		{"preloaded", "x.example/app:v1", records.Record{ID: content, Names: other}, nil, true},
		{"preloaded, by digest", "x.example/app@" + content, records.Record{ID: content, Names: other}, nil, true},
		{"a pull has begun", "x.example/app:v1", records.Record{ID: content, Names: other}, []string{"x.example/app:v1 linux/amd64"}, false},
		{"of another tag", "x.example/app:v1", records.Record{ID: content, Names: other}, []string{"x.example/app:v2 linux/amd64"}, true},
		{"of another tag, by digest", "x.example/app@" + content, records.Record{ID: content, Names: other}, []string{"x.example/app:v2 linux/amd64"}, false},
		{"of another repository, by digest", "x.example/app@" + content, records.Record{ID: content, Names: other}, []string{"x.example/b:v2 linux/amd64"}, true},
		{"names may be missing", "x.example/app:v1", records.Record{ID: content, Names: other, Incomplete: true}, nil, false},
		{"a pull left the name without access", "x.example/app:v1", records.Record{ID: content, Names: map[string]records.Access{"x.example/app": {}}}, nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			platform, err := index.ParsePlatform("linux/amd64")
			require.NoError(t, err)
			w := newWorld(t, Config{Platform: platform, Records: &scriptedRecords{record: &tt.record, intents: tt.intents}})
			w.access.adopted.Store(true)
			w.runtime.store[tt.image] = content
			_, err = w.Pull(t.Context(), Request{Image: tt.image, Policy: pullpolicy.Never})
			assert.Equal(t, tt.want, err == nil, "%v", err)
		})
	}
}

// TestEventsOfBadSecretsAsReported runs the case of other projects' tests about the
// event of a malformed secret.
func TestEventsOfBadSecretsAsReported(t *testing.T) {
	type reported struct {
		Cases []struct {
			ID    string
			Input struct {
				PodSecrets []string `json:"pod_secrets"`
			}
			Expected struct{ Events []EventReason }
		}
	}
	cases := readVectors[reported](t, "field/peers.json").Cases
	require.Len(t, cases, 1)
	for _, c := range cases {
		ring := ringOf()
		for _, s := range c.Input.PodSecrets {
			if s == "malformed" {
				ring.problem = errors.New("unexpected end of JSON input")
			} else {
				ring.creds = append(ring.creds, secret("a", "1"))
			}
		}
		w := newWorld(t, Config{})
		_, err := w.Pull(t.Context(), Request{Image: "priv.example/app:1", Keyring: ring})
		require.NoError(t, err)
		assert.Equal(t, c.Expected.Events, w.reasons(), c.ID)
	}
}
