package strictjson_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/pullkit/pullkit/internal/strictjson"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMembersAndElementsGiveTheBytes(t *testing.T) {
	members, err := strictjson.Members([]byte(` { "a" : [1, 2] , "\u0062":{"x":null},"a":"é" } `))
	require.NoError(t, err)
	assert.Equal(t, []strictjson.Member{{Key: "a", Value: []byte("[1, 2]")}, {Key: "b", Value: []byte(`{"x":null}`)}, {Key: "a", Value: []byte(`"é"`)}}, members)
	elements, err := strictjson.Elements(members[0].Value)
	require.NoError(t, err)
	assert.Equal(t, [][]byte{[]byte("1"), []byte("2")}, elements)
	s, err := strictjson.String(members[2].Value)
	require.NoError(t, err)
	assert.Equal(t, "é", s)

	for _, null := range []string{"null", " null "} {
		members, err = strictjson.Members([]byte(null))
		assert.NoError(t, err)
		assert.Empty(t, members)
		elements, err = strictjson.Elements([]byte(null))
		assert.NoError(t, err)
		assert.Empty(t, elements)
		s, err = strictjson.String([]byte(null))
		assert.NoError(t, err)
		assert.Empty(t, s)
	}
	for _, bad := range []string{``, `[}`, `{"a":1,}`, `{"a":1} x`, `"a`, `7`} {
		members, err = strictjson.Members([]byte(bad))
		assert.Error(t, err, bad)
		assert.Nil(t, members, bad)
		elements, err = strictjson.Elements([]byte(bad))
		assert.Error(t, err, bad)
		assert.Nil(t, elements, bad)
		_, err = strictjson.String([]byte(bad))
		assert.Error(t, err, bad)
	}
	for text, kind := range map[string]string{
		" {": strictjson.KindObject, "[": strictjson.KindArray, `"`: strictjson.KindString, "-1": strictjson.KindNumber, "7": strictjson.KindNumber,
		"true": strictjson.KindBoolean, "false": strictjson.KindBoolean, "null": strictjson.KindNull, "": strictjson.KindNull,
	} {
		assert.Equal(t, kind, strictjson.KindOf([]byte(text)), text)
	}
}

// TestValidReadsAsDeepAsEncodingJSON: Valid accepts the same depth as json.Valid.
func TestValidReadsAsDeepAsEncodingJSON(t *testing.T) {
	for _, depth := range []int{strictjson.MaxDepth, strictjson.MaxDepth + 1} {
		text := []byte(strings.Repeat("[", depth) + strings.Repeat("]", depth))
		assert.Equal(t, json.Valid(text), strictjson.Valid(text), depth)
	}
}

// FuzzValid compares Valid with json.Valid, and Members with json.Unmarshal into a map.
func FuzzValid(f *testing.F) {
	for _, seed := range []string{`{"a":[1,{"b":null}],"a":"\ud800"}`, `[1e5,-0.1,true]`, "\"\xff\"", `{"a" 1}`, " null\n", "{}{}"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		require.Equal(t, json.Valid(data), strictjson.Valid(data), "%q", data)
		var want map[string]json.RawMessage
		if json.Unmarshal(data, &want) != nil {
			return
		}
		members, err := strictjson.Members(data)
		require.NoError(t, err)
		got := map[string]json.RawMessage{}
		for _, m := range members {
			got[m.Key] = m.Value
		}
		require.Equal(t, len(want), len(got))
		for key, value := range want {
			require.Equal(t, string(value), string(got[key]), "%q", key)
		}
	})
}

func TestRepeatedFindsTheSecondKey(t *testing.T) {
	for text, want := range map[string]int{
		`{}`: -1, `{"a":1,"b":1}`: -1, `[{"a":1},{"a":1}]`: -1, `{"a":{"a":1}}`: -1, `null`: -1, `"a"`: -1, `{"A":1,"a":2}`: -1,
		`{"a":1,"a":2}`: 7, `{"a":1,"\u0061":2}`: 7, `[1,{"x":[{"b":{},"b":[]}]}]`: 17, `{"a":1, "a":2,"b":1,"b":1}`: 8,
	} {
		assert.Equal(t, want, strictjson.Repeated([]byte(text)), text)
	}
}

func TestDescribeHasAnArticle(t *testing.T) {
	for value, want := range map[string]string{`{}`: "an object", ` [1]`: "an array", `"x"`: "a string", `-1`: "a number", `true`: "a boolean", `null`: "a null"} {
		assert.Equal(t, want, strictjson.Describe([]byte(value)))
	}
}
