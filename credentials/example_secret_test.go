package credentials_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/pullkit/pullkit/credentials"
	"github.com/pullkit/pullkit/reference"
)

const manifest = `
apiVersion: v1
kind: Secret
metadata:
  name: regcred
  namespace: web
type: kubernetes.io/dockerconfigjson
stringData:
  .dockerconfigjson: '{"auths": {"registry.example": {"username": "robot", "password": "secret"}}}'
`

func ExampleFromSecrets() {
	secrets, err := credentials.ParseSecrets([]byte(manifest))
	if err != nil {
		panic(err)
	}
	ring := credentials.FromSecrets(secrets, credentials.Rules{})
	for cred := range ring.Lookup(context.Background(), reference.MustParse("registry.example/app:v1")) {
		fmt.Println(cred.Username, cred.Origin)
	}
	// Output: robot secret "web/regcred", key "registry.example"
}

func ExampleFromSecrets_malformed() {
	bad := credentials.Secret{Name: "bad", Type: credentials.TypeDockerConfigJSON, Data: credentials.ConcealData(map[string][]byte{
		credentials.KeyDockerConfigJSON: []byte(`{"auths": []}`),
	})}
	fmt.Println(credentials.Problems(credentials.FromSecrets([]credentials.Secret{bad}, credentials.Rules{})))
	// Output: [secret "bad": data[.dockerconfigjson]: auths is an array, not an object]
}

func ExampleProblems() {
	opaque := credentials.Secret{Name: "regcred", Type: "kubernetes.io/tls"}
	file, err := credentials.ParseFile([]byte(`{"auths": {"oci://registry.example": {"auth": "Ym9iOnMzY3JldA=="}}}`), "config.json", credentials.Rules{})
	if err != nil {
		panic(err)
	}
	for _, err := range credentials.Problems(credentials.Join(credentials.FromSecrets([]credentials.Secret{opaque}, credentials.Rules{}), file)) {
		var entry *credentials.Error
		fmt.Println(errors.As(err, &entry), errors.Is(err, credentials.ErrGivesNothing), entry.Origin)
	}
	// Output:
	// true true secret "regcred"
	// true false file "config.json", key "oci://registry.example"
}

func ExampleParseSecrets() {
	secrets, err := credentials.ParseSecrets([]byte(manifest + "---\nkind: Service\n"))
	fmt.Println(len(secrets), secrets[0].Name, err)

	bad := "---\nkind: Secret\ndata: {.dockerconfigjson: 5}\nmetadata: {name: bad}\n"
	secrets, err = credentials.ParseSecrets([]byte(manifest + bad))
	fmt.Println(len(secrets), secrets[0].Name, err)
	// Output:
	// 1 regcred <nil>
	// 1 regcred manifest, document 2: secret "bad": data[.dockerconfigjson] is a number, not a string
}

func ExampleSecret() {
	secrets, _ := credentials.ParseSecrets([]byte("kind: Secret\nmetadata: {name: myregistrykey}\ntype: kubernetes.io/dockerconfigjson\ndata: {.dockerconfigjson: UmVhbGx5}\n"))
	fmt.Println(secrets[0].Validate())
	// Output: Secret "myregistrykey" is invalid: data[.dockerconfigjson]: invalid value: cannot be read as a .docker/config.json file: it is not JSON: syntax error at byte 1
}

func ExampleSecret_Validate() {
	secrets, _ := credentials.ParseSecrets([]byte("kind: Secret\nmetadata: {name: myregistrykey}\ntype: kubernetes.io/dockerconfigjson\ndata: {.dockerconfigjson: 'no base64'}\n"))
	err := secrets[0].Validate()
	fmt.Println(errors.Is(err, credentials.ErrSecretInvalid))
	fmt.Println(err)
	// Output:
	// true
	// no objects passed to create: data[.dockerconfigjson] of Secret "myregistrykey" is not base64
}

func ExampleConcealData() {
	data := credentials.ConcealData(map[string][]byte{"token": []byte("secret")})
	fmt.Println(data["token"].Reveal())
	// Output: secret
}

func ExampleSecretNames() {
	fmt.Println(credentials.SecretNames(nil, []string{"of-the-account"}))
	fmt.Println(credentials.SecretNames([]string{"of-the-pod"}, []string{"of-the-account"}))
	// Output:
	// [of-the-account]
	// [of-the-pod]
}

func ExampleDockerConfig() {
	data, err := credentials.DockerConfig{Server: "registry.example", Username: "robot", Password: credentials.Conceal("secret")}.JSON()
	fmt.Println(string(data), err)
	// Output: {"auths":{"registry.example":{"username":"robot","password":"secret","auth":"cm9ib3Q6c2VjcmV0"}}} <nil>
}

func ExampleMarshalConfig() {
	secrets, _ := credentials.ParseSecrets([]byte(manifest))
	data, dropped, err := credentials.MarshalConfig(credentials.Join(credentials.FromSecrets(secrets, credentials.Rules{}), config()))
	fmt.Println(string(data), err)
	fmt.Println(dropped)
	// Output:
	// {
	// 	"auths": {
	// 		"registry.example": {
	// 			"auth": "cm9ib3Q6c2VjcmV0"
	// 		},
	// 		"registry.example/team": {
	// 			"auth": "cm9ib3Q6b2xk"
	// 		}
	// 	}
	// } <nil>
	// [file "config.json", key "registry.example"]
}

func ExampleLister() {
	var list credentials.Lister = config()
	for cred := range list.All() {
		fmt.Println(cred.Origin.Key)
	}
	// Output:
	// registry.example/team
	// registry.example
}
