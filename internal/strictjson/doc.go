// Package strictjson reads JSON documents from untrusted sources. It refuses documents that
// another parser may read differently: a key that an object has twice, a key in another
// case (LAYERS for layers), or a second document behind the first. encoding/json accepts
// the first two.
//
// The caller reads a document member by member; of members that it does not read, only the
// syntax is checked. The values are the same as those from encoding/json. [Reader.Object]
// reads objects with known members. [Reader.Members] reads objects whose keys are data, and
// keeps their order.
//
//	var token struct{ Token string; ExpiresIn int64 }
//	err := strictjson.Decode(body, strictjson.Limits{}, func(r *strictjson.Reader) error {
//		return r.Object([]string{"token", "expires_in"}, func(key string) (err error) {
//			switch key {
//			case "token":
//				token.Token, err = r.String()
//			case "expires_in":
//				token.ExpiresIn, err = r.Int64()
//			}
//			return err
//		})
//	})
//
// Errors do not quote values, nor keys of objects whose keys are data, so that errors about
// files with secrets can be shown.
package strictjson
