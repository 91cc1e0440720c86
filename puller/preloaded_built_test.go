package puller_test

import (
	"encoding/json"
	"os"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller"
	"github.com/pullkit/pullkit/puller/layout"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/pullkit/pullkit/puller/records"
	"github.com/pullkit/pullkit/puller/transfer"
	"github.com/pullkit/pullkit/pullpolicy"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// These cases were reported by users: a preloaded image, and another name of the same
// digest. They run with the built-in Runtime, records on disk and registries.
func TestReportedCasesOfPreloadedImages(t *testing.T) {
	data, err := os.ReadFile("testdata/vectors/field/records.json")
	require.NoError(t, err)
	var family struct {
		Cases []struct {
			ID, Verify string
			Expect     struct{ PreloadedAgain, OtherWithoutSecret string }
		}
	}
	require.NoError(t, json.Unmarshal(data, &family))
	require.Len(t, family.Cases, 2)

	image := pullertest.ImageSpec{Platforms: []ocispec.Platform{{OS: "linux", Architecture: "amd64"}}, Layers: []int64{1000}, Seed: 7}
	serve := func(repository string, conf pullertest.Config) string {
		reg, err := pullertest.Start(conf)
		require.NoError(t, err)
		t.Cleanup(func() { reg.Close() })
		_, err = reg.PutImage(repository+":v1", image)
		require.NoError(t, err)
		return reg.Host() + "/" + repository + ":v1"
	}
	open := serve("team/app", pullertest.Config{})
	private := serve("private/app", pullertest.Config{Auth: pullertest.AuthBasic, Users: []pullertest.User{{Name: "bob", Password: "s3cret"}}})
	secret := credentials.Static{{Username: "bob", Password: credentials.Conceal("s3cret"),
		Origin: credentials.Origin{Kind: credentials.KindSecret, Namespace: "web", Name: "regcred", UID: "1"}}}
	platform := ocispec.Platform{OS: "linux", Architecture: "amd64"}

	for _, c := range family.Cases {
		t.Run(c.ID, func(t *testing.T) {
			store, err := layout.Open(t.TempDir(), layout.Config{})
			require.NoError(t, err)
			defer store.Close()
			rt, err := transfer.New(transfer.Config{Store: store})
			require.NoError(t, err)
			before, err := puller.New(puller.Config{Runtime: rt, Platform: platform})
			require.NoError(t, err)
			preloaded, err := before.Pull(t.Context(), puller.Request{Image: open})
			require.NoError(t, err)

			recs, err := records.Open(t.TempDir())
			require.NoError(t, err)
			defer recs.Close()
			verify, err := pullpolicy.NewVerification(pullpolicy.VerificationPolicy(c.Verify))
			require.NoError(t, err)
			p, err := puller.New(puller.Config{Runtime: rt, Platform: platform, Records: recs, Verify: verify})
			require.NoError(t, err)
			pod := credentials.Pod{Namespace: "web"}
			pulled, err := p.Pull(t.Context(), puller.Request{Image: private, Keyring: secret, Pod: pod})
			require.NoError(t, err)
			require.Equal(t, preloaded.ID, pulled.ID, "one content")

			outcome := func(image string) string {
				if _, err := p.Pull(t.Context(), puller.Request{Image: image, Policy: pullpolicy.Never, Pod: pod}); err != nil {
					return "error"
				}
				return "ok"
			}
			assert.Equal(t, c.Expect.PreloadedAgain, outcome(open))
			assert.Equal(t, c.Expect.OtherWithoutSecret, outcome(private))
		})
	}
}
