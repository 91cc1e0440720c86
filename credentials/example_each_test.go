package credentials_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/reference"
)

// auths is a config.json with two logins for one registry.
const auths = `{"auths": {
	"registry.example/team": {"username": "robot", "password": "old"},
	"registry.example": {"username": "everybody", "password": "secret"}
}}`

func config() *credentials.File {
	c, err := credentials.ParseFile([]byte(auths), "config.json", credentials.Rules{})
	if err != nil {
		panic(err)
	}
	return c
}

// pull is in place of a real pull. The registry accepts only one login.
func pull(_ context.Context, c credentials.Credential) (string, error) {
	if c.Username != "everybody" {
		return "", fs.ErrPermission
	}
	return "pulled", nil
}

func ExampleEach() {
	ref := reference.MustParse("registry.example/team/app:v1")
	got, err := credentials.Each(context.Background(), config(), ref, pull)
	fmt.Println(got, err)
	// Output: pulled <nil>
}

func ExampleAttemptsError() {
	ref := reference.MustParse("registry.example/team/app:v1")
	deny := func(context.Context, credentials.Credential) (string, error) { return "", fs.ErrPermission }
	_, err := credentials.Each(context.Background(), config(), ref, deny)
	fmt.Println(errors.Is(err, fs.ErrPermission))
	var failed *credentials.AttemptsError
	if errors.As(err, &failed) {
		for _, a := range failed.Attempts {
			fmt.Println(a)
		}
	}
	// Output:
	// true
	// with file "config.json", key "registry.example/team": permission denied
	// with file "config.json", key "registry.example": permission denied
}

func ExampleAttempt() {
	a := credentials.Attempt{Err: fs.ErrPermission} // of the anonymous attempt
	fmt.Println(a)
	// Output: without a credential: permission denied
}

func ExampleStop() {
	ref := reference.MustParse("registry.example/team/app:v1")
	calls := 0
	_, err := credentials.Each(context.Background(), config(), ref, func(context.Context, credentials.Credential) (string, error) {
		calls++
		return "", credentials.Stop(errors.New("disk full"))
	})
	fmt.Println(calls, credentials.Stopped(err))
	// Output: 1 true
}

func ExampleStopped() {
	err := fmt.Errorf("write: %w", credentials.Stop(errors.New("disk full")))
	fmt.Println(credentials.Stopped(err), err)
	// Output: true write: disk full
}

// A vault is a Keyring of a vendor, which asks the vendor's service.
type vault map[string]string

func (v vault) Lookup(_ context.Context, ref reference.Reference) iter.Seq2[credentials.Credential, error] {
	return func(yield func(credentials.Credential, error) bool) {
		if password, ok := v[ref.Registry()]; ok {
			yield(credentials.Credential{
				Username: "vault", Password: credentials.Conceal(password),
				Origin: credentials.Origin{Kind: "vault", Name: "https://vault.example"},
			}, nil)
		}
	}
}

// A vendor's source of credentials is a type with one method. Join joins it with others.
func ExampleKeyring() {
	ring := credentials.Join(config(), vault{"registry.example": "secret"})
	for cred, err := range ring.Lookup(context.Background(), reference.MustParse("registry.example/app")) {
		fmt.Println(cred.Username, cred.Origin, err)
	}
	// Output:
	// everybody file "config.json", key "registry.example" <nil>
	// vault vault "https://vault.example" <nil>
}

func ExampleJoin() {
	own := credentials.Static{{Username: "everybody", Password: credentials.Conceal("secret")}}
	ring := credentials.Join(own, config()) // the same credential is not tried again
	for cred := range ring.Lookup(context.Background(), reference.MustParse("registry.example/team/app")) {
		fmt.Println(cred.Username, cred.Origin)
	}
	// Output:
	// everybody a given credential
	// robot file "config.json", key "registry.example/team"
}

func ExampleStatic() {
	ring := credentials.Join(config(), credentials.Static{{}}) // an anonymous attempt after all others failed
	for cred := range ring.Lookup(context.Background(), reference.MustParse("registry.example/app")) {
		fmt.Println(cred.Anonymous(), cred.Origin)
	}
	// Output:
	// false file "config.json", key "registry.example"
	// true no credential
}
