//go:build unix && !solaris && !aix

package verify_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/puller/content"
	"github.com/pullkit/pullkit/puller/verify"
	"github.com/pullkit/pullkit/reference"
)

const imageName = "registry.example/team/app:v1"

// admission returns an image with a credential.
func admission(name string) content.Admission {
	ref := reference.MustParse(name)
	top := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: digest.FromString(name), Size: 7, Annotations: map[string]string{"a": "b"}}
	pinned, err := ref.WithDigest(top.Digest)
	if err != nil {
		panic(err)
	}
	return content.Admission{Ref: ref, Top: top, Repo: content.Repo{Ref: pinned,
		Cred: credentials.Credential{Username: "robot", Password: credentials.Conceal("s3cret-pass"), Origin: credentials.Origin{Key: "*.example"}}}}
}

// put writes a script into dir.
func put(t testing.TB, dir, name, text string) {
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+text+"\n"), 0o755))
}

// check returns the check with the programs of dir.
func check(t testing.TB, dir string, config verify.Config) content.Check {
	c, err := verify.Programs(dir, config)
	require.NoError(t, err)
	return c
}

func TestProgramsSpeakTheProtocol(t *testing.T) {
	dir, out := t.TempDir(), t.TempDir()
	put(t, dir, "b", `echo second`)
	put(t, dir, "a", `printf '%s\n' "$@" > `+out+`/args; /bin/cat > `+out+`/stdin; echo "  signed by key 7  "; echo noise >&2`)
	require.NoError(t, os.Symlink(filepath.Join(dir, "b"), filepath.Join(dir, "c")))
	var log bytes.Buffer
	image := admission(imageName)
	by, err := check(t, dir, verify.Config{Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))}).Admit(t.Context(), image)
	require.NoError(t, err)
	assert.Equal(t, "a => signed by key 7, b => second, c => second", by)
	args, err := os.ReadFile(filepath.Join(out, "args"))
	require.NoError(t, err)
	assert.Equal(t, "-name\n"+imageName+"\n-digest\n"+string(image.Top.Digest)+"\n-stdin-media-type\n"+ocispec.MediaTypeDescriptor+"\n", string(args))
	stdin, err := os.ReadFile(filepath.Join(out, "stdin"))
	require.NoError(t, err)
	assert.JSONEq(t, fmt.Sprintf(`{"mediaType": %q, "digest": %q, "size": 7}`, image.Top.MediaType, image.Top.Digest), string(stdin))
	assert.Contains(t, log.String(), "noise")
}

// Each row of the table of faults in the package comment keeps the image out.
func TestEveryFaultKeepsTheImageOut(t *testing.T) {
	refused, undecided := content.ErrRefused, content.ErrCheckFailed
	for _, tt := range []struct {
		fault string
		make  func(dir string) // after the program "b", which admits
		limit verify.Config
		want  content.Reason
		text  string
	}{
		{"a program ends with another status than 0", func(dir string) { put(t, dir, "a", "echo unsigned; exit 3") }, verify.Config{}, refused, `program "a": exit status 3: unsigned`},
		{"a program ends with another status than 0, without a reason", func(dir string) { put(t, dir, "a", "exit 1") }, verify.Config{}, refused, "it gave no reason"},
		{"a program rejects the image, another admits it", func(dir string) { put(t, dir, "c", "exit 1") }, verify.Config{}, refused, `program "c"`},
		{"the directory does not exist", func(dir string) { require.NoError(t, os.RemoveAll(dir)) }, verify.Config{}, undecided, "no such file"},
		{"the directory is a file", func(dir string) {
			require.NoError(t, os.RemoveAll(dir))
			require.NoError(t, os.WriteFile(dir, nil, 0o755))
		}, verify.Config{}, undecided, "not a directory"},
		{"the directory has no file", func(dir string) { require.NoError(t, os.Remove(filepath.Join(dir, "b"))) }, verify.Config{}, undecided, "has no program"},
		{"the directory has more than MaxPrograms files", func(dir string) { put(t, dir, "c", "exit 0") }, verify.Config{MaxPrograms: 1}, undecided, "more than 1 files"},
		{"the directory has more files than the default", func(dir string) {
			for i := range 10 {
				put(t, dir, fmt.Sprint(i), "exit 0")
			}
		}, verify.Config{}, undecided, "more than 10 files"},
		{"a file is a directory", func(dir string) { require.NoError(t, os.Mkdir(filepath.Join(dir, "a"), 0o755)) }, verify.Config{}, undecided, `program "a" is not a file`},
		{"a file is a pipe", func(dir string) { require.NoError(t, syscall.Mkfifo(filepath.Join(dir, "a"), 0o755)) }, verify.Config{}, undecided, `program "a" is not a file`},
		{"a file is a broken link", func(dir string) { require.NoError(t, os.Symlink("absent", filepath.Join(dir, "z"))) }, verify.Config{}, undecided, `program "z"`},
		{"a file is not executable", func(dir string) {
			require.NoError(t, os.WriteFile(filepath.Join(dir, "a"), []byte("#!/bin/sh\n"), 0o644))
		}, verify.Config{}, undecided, `program "a" is not executable (chmod +x)`},
		{"a program's interpreter cannot be started", func(dir string) {
			require.NoError(t, os.WriteFile(filepath.Join(dir, "a"), []byte("#!/absent/sh\n"), 0o755))
		}, verify.Config{}, undecided, "its interpreter is missing /absent/sh"},
		{"a program cannot be started", func(dir string) {
			require.NoError(t, os.WriteFile(filepath.Join(dir, "a"), []byte{0x7f, 'E', 'L', 'F', 0}, 0o755))
		}, verify.Config{}, undecided, `program "a"`},
		{"a program takes longer than Timeout", func(dir string) { put(t, dir, "a", "echo fine; /bin/sleep 600") }, verify.Config{Timeout: 20 * time.Millisecond}, undecided, "took longer than 20ms"},
		{"a program writes more than MaxOutput", func(dir string) { put(t, dir, "a", "echo 123456789") }, verify.Config{MaxOutput: 9}, undecided, "wrote more than 9 bytes"},
		{"a program is ended by a signal", func(dir string) { put(t, dir, "a", "kill -9 $$") }, verify.Config{}, undecided, "killed"},
		{"a program leaves a process that holds its output", func(dir string) { put(t, dir, "a", "/bin/sleep 2 & exit 0") }, verify.Config{}, undecided, "holds its output open"},
		{"the credential cannot be written", func(string) {}, verify.Config{PassCredential: true, TempDir: filepath.Join(t.TempDir(), "absent")}, undecided, "cannot be written"},
	} {
		t.Run(tt.fault, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "programs")
			require.NoError(t, os.Mkdir(dir, 0o755))
			put(t, dir, "b", "exit 0")
			_, err := check(t, dir, tt.limit).Admit(t.Context(), admission(imageName))
			if reflect.ValueOf(tt.limit).IsZero() {
				require.NoError(t, err, "without the fault")
			}
			tt.make(dir)
			by, err := check(t, dir, tt.limit).Admit(t.Context(), admission(imageName))
			require.Error(t, err)
			assert.Empty(t, by)
			assert.Equal(t, tt.want, content.ReasonOf(err))
			assert.ErrorContains(t, err, tt.text)
			assert.NotContains(t, err.Error(), "\n")
		})
	}
}

// This is the row of the package comment about a directory that cannot be listed. Root can
// list every directory, so the test needs an ordinary user.
func TestADirectoryThatCannotBeListedAdmitsNothing(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "a", "exit 0")
	require.NoError(t, os.Chmod(dir, 0o300))
	defer os.Chmod(dir, 0o700)
	c := check(t, dir, verify.Config{})
	_, err := c.Admit(t.Context(), admission(imageName))
	if os.Geteuid() == 0 {
		require.NoError(t, err)
		assert.NotEmpty(t, c.Fingerprint())
		return
	}
	assert.Equal(t, content.ErrCheckFailed, content.ReasonOf(err))
	assert.Empty(t, c.Fingerprint())
}

// This is the row about a credential that cannot be removed. Root can remove every file,
// so the test needs an ordinary user.
func TestACredentialThatCannotBeRemovedAdmitsNothing(t *testing.T) {
	dir, temp := t.TempDir(), t.TempDir()
	put(t, dir, "a", `/bin/chmod 500 "${DOCKER_CONFIG%/*}"`)
	defer os.Chmod(temp, 0o700)
	_, err := check(t, dir, verify.Config{PassCredential: true, TempDir: temp}).Admit(t.Context(), admission(imageName))
	if os.Geteuid() == 0 {
		require.NoError(t, err)
		return
	}
	assert.Equal(t, content.ErrCheckFailed, content.ReasonOf(err))
	assert.ErrorContains(t, err, "cannot be removed")
}

func TestTheEndOfTheContextIsReturned(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "a", "kill -STOP $$")
	ctx, cancel := context.WithCancelCause(t.Context())
	left := errors.New("the caller has left")
	go func() { cancel(left) }()
	_, err := check(t, dir, verify.Config{Timeout: time.Minute}).Admit(ctx, admission(imageName))
	assert.ErrorIs(t, err, left)
	assert.Empty(t, content.ReasonOf(err))
}

// The credential is in a config.json of docker, in a directory that only this user can
// read. It is for this registry only, and is removed after the call.
func TestProgramsGetTheCredential(t *testing.T) {
	dir, temp, out := t.TempDir(), t.TempDir(), t.TempDir()
	put(t, dir, "a", `cp "$DOCKER_CONFIG/config.json" `+out+`; ls -ld "$DOCKER_CONFIG" > `+out+`/mode; ls -l "$DOCKER_CONFIG/config.json" >> `+out+`/mode; echo "$DOCKER_CONFIG" > `+out+`/where; touch "$DOCKER_CONFIG/more"; echo "password s3cret-pass"; exit `+"`cat "+out+"/status`")
	for _, status := range []string{"0", "1"} {
		require.NoError(t, os.WriteFile(filepath.Join(out, "status"), []byte(status), 0o600))
		for _, name := range []string{imageName, "nginx"} {
			image := admission(name)
			by, err := check(t, dir, verify.Config{PassCredential: true, TempDir: temp, Environ: map[string]credentials.Sensitive{"DOCKER_CONFIG": credentials.Conceal("/other"), "PATH": credentials.Conceal(os.Getenv("PATH"))}}).Admit(t.Context(), image)
			assert.Equal(t, status == "0", err == nil)
			assert.NotContains(t, fmt.Sprint(by, err), "s3cret-pass", "the program repeats the password")
			data, err := os.ReadFile(filepath.Join(out, "config.json"))
			require.NoError(t, err)
			file, err := credentials.ParseFile(data, "config.json", credentials.Rules{})
			require.NoError(t, err)
			var found []credentials.Credential
			for c := range file.Lookup(t.Context(), image.Ref) {
				found = append(found, c)
			}
			require.Len(t, found, 1)
			assert.True(t, found[0].Same(image.Repo.Cred))
			for range file.Lookup(t.Context(), reference.MustParse("other.example/app")) {
				assert.Fail(t, "the credential is for one registry")
			}
			mode, err := os.ReadFile(filepath.Join(out, "mode"))
			require.NoError(t, err)
			assert.Contains(t, string(mode), "drwx------")
			assert.Contains(t, string(mode), "-rw-------")
			left, err := os.ReadDir(temp)
			require.NoError(t, err)
			assert.Empty(t, left, "the directory is removed")
		}
	}
	image := admission(imageName)
	image.Repo.Cred = credentials.Credential{}
	_, err := check(t, dir, verify.Config{PassCredential: true, TempDir: temp}).Admit(t.Context(), image)
	require.Error(t, err)
	data, err := os.ReadFile(filepath.Join(out, "config.json"))
	require.NoError(t, err)
	assert.NotContains(t, string(data), "registry.example", "an anonymous pull has no credential")
	var doc map[string]any
	assert.NoError(t, json.Unmarshal(data, &doc))

	image = admission(imageName)
	image.Repo.Cred = credentials.Credential{IdentityToken: credentials.Conceal("identity-token")}
	_, err = check(t, dir, verify.Config{PassCredential: true, TempDir: temp}).Admit(t.Context(), image)
	require.Error(t, err)
	data, err = os.ReadFile(filepath.Join(out, "config.json"))
	require.NoError(t, err)
	assert.Contains(t, string(data), "identity-token")
}

func TestProgramsGetOnlyTheListedVariables(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "a", "/usr/bin/env | /bin/grep -E 'canary|SSL_CERT_FILE|KEY' | /usr/bin/tr '\\n' ' '")
	t.Setenv("PULLKIT_TEST_SECRET", "canary")
	t.Setenv("DOCKER_AUTH_CONFIG", "canary")
	t.Setenv("DOCKER_CONFIG", "canary")
	t.Setenv("SSL_CERT_FILE", "/certs")
	by, err := check(t, dir, verify.Config{}).Admit(t.Context(), admission(imageName))
	require.NoError(t, err)
	assert.NotContains(t, by, "canary")
	assert.Contains(t, by, "SSL_CERT_FILE=/certs")
	by, err = check(t, dir, verify.Config{Environ: map[string]credentials.Sensitive{"KEY": credentials.Conceal("v")}}).Admit(t.Context(), admission(imageName))
	require.NoError(t, err)
	assert.Contains(t, by, "KEY=v")
	assert.NotContains(t, by, "SSL_CERT_FILE")
}

// The fingerprint changes with everything that can change an answer.
func TestTheFingerprintFollowsThePrograms(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "a", "exit 0")
	seen := map[string]string{}
	note := func(what string, c content.Check) {
		print := c.Fingerprint()
		require.NotEmpty(t, print, what)
		assert.Equal(t, print, c.Fingerprint(), what)
		assert.NotContains(t, seen, print, what)
		seen[print] = what
	}
	c := check(t, dir, verify.Config{})
	note("as it is", c)
	note("another version", check(t, dir, verify.Config{Version: "2"}))
	put(t, dir, "a", "exit 1 ")
	note("another size", c)
	require.NoError(t, os.Chtimes(filepath.Join(dir, "a"), time.Time{}, time.Unix(1, 0)))
	note("another time", c)
	put(t, dir, "new", "exit 0 ")
	require.NoError(t, os.Chtimes(filepath.Join(dir, "new"), time.Time{}, time.Unix(1, 0)))
	require.NoError(t, os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "a")))
	note("other contents of the same size and time", c)
	assert.Equal(t, c.Fingerprint(), check(t, dir, verify.Config{}).Fingerprint(), "another process")
	put(t, dir, "b", "exit 0")
	note("another program", c)
	require.NoError(t, os.Chmod(filepath.Join(dir, "b"), 0o644))
	assert.Empty(t, c.Fingerprint(), "a program that cannot be run has no fingerprint")
}

func TestProgramsRefusesSettingsThatAreNotValid(t *testing.T) {
	for want, make := range map[string]func() (content.Check, error){
		"directory":   func() (content.Check, error) { return verify.Programs("", verify.Config{}) },
		"Timeout":     func() (content.Check, error) { return verify.Programs("d", verify.Config{Timeout: -1}) },
		"MaxPrograms": func() (content.Check, error) { return verify.Programs("d", verify.Config{MaxPrograms: -1}) },
		"MaxOutput":   func() (content.Check, error) { return verify.Programs("d", verify.Config{MaxOutput: -1}) },
		"name of a variable": func() (content.Check, error) {
			return verify.Programs("d", verify.Config{Environ: map[string]credentials.Sensitive{"A=B": {}}})
		},
	} {
		c, err := make()
		assert.ErrorContains(t, err, want)
		assert.Nil(t, c)
	}
}

// The name of an image cannot become an option of a program or a command of a shell.
func TestNamesAreOnlyArguments(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "a", `[ $# = 6 ] && [ "$1" = -name ]`)
	_, err := check(t, dir, verify.Config{}).Admit(t.Context(), admission("registry.example/a--b/"+strings.Repeat("x", 100)+":v1"))
	assert.NoError(t, err)
}
