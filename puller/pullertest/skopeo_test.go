package pullertest_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/pullkit/pullkit/internal/realtest"
	"github.com/pullkit/pullkit/puller/pullertest"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Skopeo, which shares no code with this package, can pull from a Registry.
func TestSkopeoPullsFromARegistry(t *testing.T) {
	skopeo := realtest.Need(t, "skopeo")
	for name, conf := range map[string]pullertest.Config{
		"open":        {},
		"basic":       {Auth: pullertest.AuthBasic},
		"bearer":      {Auth: pullertest.AuthBearer},
		"bearer, TLS": {Auth: pullertest.AuthBearer, TLS: true},
	} {
		t.Run(name, func(t *testing.T) {
			conf.Users = []pullertest.User{{Name: "robot", Password: "right"}}
			reg, err := pullertest.Start(conf)
			require.NoError(t, err)
			t.Cleanup(func() { assert.NoError(t, reg.Close()) })
			put, err := reg.PutImage("team/app:v1", pullertest.ImageSpec{
				Platforms: []ocispec.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64", Variant: "v8"}},
				Layers:    []int64{100_000, 0},
				Seed:      1,
			})
			require.NoError(t, err)

			dir := t.TempDir()
			flags := []string{"--tls-verify=false"}
			srcFlags := []string{"--src-tls-verify=false"}
			if conf.TLS {
				require.NoError(t, os.WriteFile(filepath.Join(dir, "ca.crt"), reg.CA(), 0o600))
				flags = []string{"--cert-dir", dir}
				srcFlags = []string{"--src-cert-dir", dir}
			}
			run := func(args ...string) (string, error) {
				cmd := exec.CommandContext(t.Context(), skopeo, append([]string{"--insecure-policy"}, args...)...)
				cmd.Env = append(os.Environ(), "HOME="+dir, "REGISTRY_AUTH_FILE="+filepath.Join(dir, "auth.json"))
				out, err := cmd.CombinedOutput()
				return string(out), err
			}
			src := "docker://" + reg.Host() + "/team/app"
			creds := "robot:right"

			out, err := run(append([]string{"copy", "--all", "--preserve-digests", "--src-creds", creds}, append(srcFlags, src+":v1", "oci:"+filepath.Join(dir, "oci")+":v1")...)...)
			require.NoError(t, err, out)
			for _, d := range append(put.Manifests, put.Blobs...) {
				assert.FileExists(t, filepath.Join(dir, "oci", "blobs", "sha256", d.Digest.Encoded()))
			}
			out, err = run(append([]string{"inspect", "--raw", "--creds", creds}, append(flags, src+"@"+string(put.Manifests[1].Digest))...)...)
			require.NoError(t, err, out)
			assert.Contains(t, out, string(put.Blobs[4].Digest))
			out, err = run(append([]string{"list-tags", "--creds", creds}, append(flags, src)...)...)
			require.NoError(t, err, out)
			assert.Contains(t, out, `"v1"`)
			out, err = run(append([]string{"inspect", "--raw", "--creds", creds}, append(flags, src+":v2")...)...)
			assert.Error(t, err)
			assert.Contains(t, out, "manifest unknown")
			if conf.Auth != pullertest.AuthNone {
				out, err = run(append([]string{"inspect", "--raw", "--creds", "robot:wrong"}, append(flags, src+":v1")...)...)
				assert.Error(t, err)
				assert.Regexp(t, "unauthorized|authentication required|incorrect username", out)
			}
		})
	}
}
