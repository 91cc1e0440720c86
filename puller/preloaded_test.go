package puller

import (
	"testing"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/index"
	"github.com/pullkit/pullkit/puller/records"
	"github.com/pullkit/pullkit/pullpolicy"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Two names have the same content. One of them is preloaded, and the other was pulled with
// a secret. By default every Pod may go on using the preloaded name.
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

			_, err = w.Pull(t.Context(), Request{Image: "y.example/private/app:v1", Keyring: keyringOf(secret("a", "1"))})
			require.NoError(t, err)
			if err = preloaded(); tt.want {
				assert.NoError(t, err)
			} else {
				assert.ErrorIs(t, err, ErrImageNeverPull)
			}
			// The same holds for a name that another tool adds later.
			w.runtime.store["z.example/team/app:v1"] = content
			_, err = w.Pull(t.Context(), Request{Image: "z.example/team/app:v1", Policy: pullpolicy.Never})
			assert.Equal(t, tt.want, err == nil)

			// The name that was pulled with a secret needs that secret.
			for _, ring := range []credentials.Keyring{nil, keyringOf(secret("b", "2"))} {
				_, err = w.Pull(t.Context(), Request{Image: "y.example/private/app:v1", Policy: pullpolicy.Never, Keyring: ring})
				assert.ErrorIs(t, err, ErrImageNeverPull)
			}
			_, err = w.Pull(t.Context(), Request{Image: "y.example/private/app:v1", Policy: pullpolicy.Never, Keyring: keyringOf(secret("a", "1"))})
			assert.NoError(t, err)
		})
	}
}

// A name that is not in the record does not count as preloaded if the records have a note
// of a pull of it, or if the record may have lost names. For a name with a digest, the
// pull of any tag of the repository counts.
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
