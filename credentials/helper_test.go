package credentials

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pullkit/pullkit/internal/realtest"
	"github.com/pullkit/pullkit/reference"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func testHelper(t *testing.T, env ...string) (Exec, string) {
	log := filepath.Join(t.TempDir(), "log")
	env = append([]string{programSecret, "hunter2", programLog, log}, env...)
	return Exec{Dir: installProgram(t, "docker-credential-test", "docker-credential-other"), Environ: programEnv("helper", env...)}, log
}

func TestAnswersOfAHelperAreCredentialsOrErrors(t *testing.T) {
	c, _ := testHelper(t)
	h, err := NewHelper("test", c)
	require.NoError(t, err)
	origin := func(server string) Origin { return Origin{Kind: KindHelper, Name: "test", Key: server} }
	for image, want := range map[string][]Credential{
		"r.io/app":     {{Username: "kept", Password: Conceal("hunter2"), Origin: origin("r.io")}},
		"token.io/app": {{IdentityToken: Conceal("refresh"), Origin: origin("token.io")}},
		"nginx":        {{Username: "hub", Password: Conceal("hunter2"), Origin: origin("https://index.docker.io/v1/")}},
		"none.io/app":  nil,
	} {
		creds, errs := collect(t.Context(), h, image)
		assert.Empty(t, errs, image)
		assert.Equal(t, want, creds, image)
	}
	for image, fault := range map[string]error{"broken.io/app": ErrProgramFailed, "half.io/app": ErrProgramFailed, "garbage.io/app": errProgramAnswer} {
		_, errs := collect(t.Context(), h, image)
		require.Len(t, errs, 1, image)
		var source *Error
		assert.ErrorAs(t, errs[0], &source, image)
		assert.ErrorIs(t, errs[0], fault, image)
		assert.NotContains(t, errs[0].Error(), "hunter2", image)
	}
	_, errs := collect(t.Context(), h, "broken.io/app")
	assert.ErrorContains(t, errs[0], "the store is locked")

	h, err = NewHelper("missing", c)
	require.NoError(t, err)
	_, errs = collect(t.Context(), h, "r.io/app")
	require.Len(t, errs, 1)
	assert.ErrorIs(t, errs[0], errProgramMissing)

	notes := slices.Collect(h.(Explainer).Explain(reference.MustParse("r.io/app")))
	require.Len(t, notes, 1)
	assert.True(t, notes[0].Matched)
}

func TestHelperNamesAreChecked(t *testing.T) {
	for name, ok := range map[string]bool{
		"pass": true, "ecr-login": true, "a.b_c-1": true,
		"": false, ".": false, "..": false, "a/b": false, `a\b`: false, "a b": false, "-x": false, "é": false, "a\x00": false, "$(id)": false,
	} {
		_, err := NewHelper(name, Exec{})
		assert.Equal(t, ok, err == nil, "%q", name)
	}
}

// TestWithHelpersAsksTheHelperOfTheHost holds which helper is asked for a host, and that
// the entries of the file are tried too.
func TestWithHelpersAsksTheHelperOfTheHost(t *testing.T) {
	c, log := testHelper(t)
	config, err := ParseFile([]byte(`{
		"credHelpers": {"r.io": "test", "https://index.docker.io/v1/": "test", "broken.io": "test", "*.io": "test", "bad.io": 5, "path.io/x": "test"},
		"credsStore": "other",
		"auths": {"r.io": {"auth": "dTpw"}, "broken.io": {"auth": "dTpw"}, "none.io": {"auth": "dTpw"}, "docker.io": {}}
	}`), "config.json", Rules{})
	require.NoError(t, err)
	assert.Len(t, faults(Problems(config)), 3)
	assert.Len(t, Problems(config), 5, "and each program that was not asked")
	ring := config.WithHelpers(c)

	creds, _ := collect(t.Context(), config, "r.io/app")
	assert.Len(t, creds, 1)
	assert.Empty(t, runs(t, log), "a file without WithHelpers starts no program")

	names := func(image string) (got []string) {
		creds, errs := collect(t.Context(), ring, image)
		for _, c := range creds {
			got = append(got, string(c.Origin.Kind)+" "+c.Origin.Name+" "+c.Username)
		}
		for range errs {
			got = append(got, "error")
		}
		return got
	}
	assert.Equal(t, []string{"helper test kept", "file config.json u"}, names("r.io/app"))
	assert.Equal(t, []string{"helper test hub"}, names("nginx"))
	assert.Equal(t, []string{"file config.json u"}, names("none.io/app"))
	assert.Equal(t, []string{"helper other "}, names("token.io/app"))
	assert.ElementsMatch(t, []string{"error", "file config.json u"}, names("broken.io/app"))
	assert.NotEqual(t, ring.(Fingerprinter).Fingerprint(reference.MustParse("r.io/app")), config.Fingerprint(reference.MustParse("r.io/app")))
	assert.Len(t, slices.Collect(ring.(Explainer).Explain(reference.MustParse("r.io/app"))), 1+3+2, "the helper, the entries, and what may name this host")

	plain := configOf(t, "r.io").WithHelpers(c) // the file names no helper
	creds, errs := collect(t.Context(), plain, "r.io/app")
	assert.Empty(t, errs)
	assert.Len(t, creds, 1)

	_, err = ParseFile([]byte(`{"credHelpers":5,"credsStore":["x"]}`), "config.json", Rules{Kubelet: true})
	assert.NoError(t, err, "the kubelet does not read them")
}

// TestDockerCredentialPassGivesItsLogin runs the real docker-credential-pass, with a key and a store of
// its own.
func TestDockerCredentialPassGivesItsLogin(t *testing.T) {
	program := realtest.Need(t, "docker-credential-pass")
	realtest.Need(t, "pass")
	gpg := realtest.Need(t, "gpg")
	home := realtest.ShortDir(t)
	env := []string{"HOME=" + home, "GNUPGHOME=" + filepath.Join(home, "gnupg"), "PASSWORD_STORE_DIR=" + filepath.Join(home, "store"), "PATH=" + os.Getenv("PATH")}
	require.NoError(t, os.Mkdir(filepath.Join(home, "gnupg"), 0o700))
	run := func(stdin, program string, args ...string) {
		cmd := exec.Command(program, args...)
		cmd.Env, cmd.Stdin = env, strings.NewReader(stdin)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s %v: %s", program, args, out)
	}
	t.Cleanup(func() {
		cmd := exec.Command("gpgconf", "--kill", "gpg-agent")
		cmd.Env = env
		_ = cmd.Run()
	})
	run("", gpg, "--batch", "--pinentry-mode", "loopback", "--passphrase", "", "--quick-generate-key", "test@example.com", "default", "default", "never")
	run("", "pass", "init", "test@example.com")
	for server, secret := range map[string]string{"registry.example:5000": "hunter2", "https://index.docker.io/v1/": "hub"} {
		run(fmt.Sprintf(`{"ServerURL":%q,"Username":"user of %s","Secret":%q}`, server, secret, secret), program, "store")
	}
	run(`{"ServerURL":"token.example","Username":"<token>","Secret":"refresh"}`, program, "store")

	c := Exec{Dir: filepath.Dir(program), Environ: map[string]Sensitive{}}
	for _, v := range env {
		name, value, _ := strings.Cut(v, "=")
		c.Environ[name] = Conceal(value)
	}
	config, err := ParseFile([]byte(`{"credsStore":"pass"}`), "config.json", Rules{})
	require.NoError(t, err)
	ring := config.WithHelpers(c)
	for image, want := range map[string]Credential{
		"registry.example:5000/team/app": {Username: "user of hunter2", Password: Conceal("hunter2")},
		"nginx":                          {Username: "user of hub", Password: Conceal("hub")},
		"token.example/app":              {IdentityToken: Conceal("refresh")},
	} {
		creds, errs := collect(t.Context(), ring, image)
		assert.Empty(t, errs, image)
		if assert.Len(t, creds, 1, image) {
			assert.True(t, creds[0].Same(want), "%s: %v", image, creds[0])
		}
	}
	creds, errs := collect(t.Context(), ring, "registry.example/app")
	assert.Empty(t, creds)
	assert.Empty(t, errs)
}
