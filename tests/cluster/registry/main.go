// An OCI registry in memory, with or without a password, for tests of policies that come from registries.
package main

import (
	"crypto/subtle"
	"flag"
	"io"
	"log"
	"net/http"

	"github.com/google/go-containerregistry/pkg/registry"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "address to listen on")
	user := flag.String("user", "", "name that clients must give; none means that anybody is let in")
	password := flag.String("password", "", "password that goes with it")
	flag.Parse()

	// Its own log of every request would drown the log of what went wrong.
	handler := located(registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true)))
	if *user != "" {
		handler = guarded(handler, *user, *password)
	}
	log.Fatal(http.ListenAndServe(*listen, handler))
}

// guarded lets in only those who know the password, as registries with basic authentication do.
func guarded(next http.Handler, user, password string) http.Handler {
	return http.HandlerFunc(func(response http.ResponseWriter, request *http.Request) {
		name, secret, _ := request.BasicAuth()
		known := subtle.ConstantTimeCompare([]byte(name), []byte(user)) & subtle.ConstantTimeCompare([]byte(secret), []byte(password))
		if known != 1 {
			response.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
			response.Header().Set("Content-Type", "application/json")
			response.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(response, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`)
			return
		}
		next.ServeHTTP(response, request)
	})
}

// located says where what was created is, as the distribution specification asks and this registry does not.
func located(next http.Handler) http.Handler {
	return http.HandlerFunc(func(response http.ResponseWriter, request *http.Request) {
		next.ServeHTTP(&locating{response, request}, request)
	})
}

type locating struct {
	http.ResponseWriter
	request *http.Request
}

func (response *locating) WriteHeader(status int) {
	if status == http.StatusCreated && response.Header().Get("Location") == "" {
		response.Header().Set("Location", response.request.URL.Path)
	}
	response.ResponseWriter.WriteHeader(status)
}
