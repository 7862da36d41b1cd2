// Command web is the backend of a web site whose pages use Posta. It serves the pages, signs a pass for each visitor, and
// sends the rest on to a node. README.md beside it is the recipe.
package main

import (
	"crypto/rand"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:8080", "the address of the site")
	pages := flag.String("pages", "examples/web/public", "the folder of the pages")
	keyFile := flag.String("key", "web.key", "the file that posta key create --json has written")
	to := flag.String("to", "127.0.0.1:9000", "the address of a node or a balancer")
	flag.Parse()
	signer, err := readKey(*keyFile)
	if err != nil {
		fmt.Fprintln(os.Stderr, "web: error:", err)
		os.Exit(1)
	}
	fmt.Printf("the site is at http://%s/\n", *listen)
	server := http.Server{Addr: *listen, Handler: newSite(*pages, *to, signer.pass), ReadHeaderTimeout: 10 * time.Second}
	fmt.Fprintln(os.Stderr, "web: error:", server.ListenAndServe())
	os.Exit(1)
}

// key is a key of Posta, as far as passes need it.
type key struct {
	ID            string   `json:"id"`
	SigningSecret string   `json:"signing_secret"`
	Grants        []string `json:"grants"`
}

func readKey(file string) (key, error) {
	var k key
	text, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(text, &k)
	}
	return k, err
}

// pass signs what lets the pages of a user do what the key allows, for five minutes. Posta is not asked.
func (k key) pass(user string) (string, error) {
	token := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"sub": user, "aud": "posta", "exp": time.Now().Add(5 * time.Minute).Unix(), "grants": k.Grants,
	})
	token.Header["typ"], token.Header["kid"] = "posta+jwt", k.ID
	return token.SignedString([]byte(k.SigningSecret))
}

// policy lets the pages load nothing from elsewhere, and run nothing that is written into them.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; " +
	"manifest-src 'self'; worker-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

// newSite returns the handler of the site. In production a web server such as Nginx does all of it but /pass.
func newSite(pages, to string, pass func(user string) (string, error)) http.Handler {
	posta := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: to})
		r.Out.Host = r.In.Host // a node compares it with the origin of the page
	}}
	site := http.NewServeMux()
	site.Handle("/v1/", posta)
	site.Handle("/posta.js", posta)
	site.Handle("/posta-outbox.js", posta)
	site.HandleFunc("POST /pass", func(w http.ResponseWriter, r *http.Request) {
		text, err := pass(visitor(w, r))
		if err != nil {
			http.Error(w, "no pass can be signed", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		_, _ = io.WriteString(w, text)
	})
	files := http.FileServer(http.Dir(pages))
	site.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", policy)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-cache")
		if strings.HasSuffix(r.URL.Path, ".webmanifest") {
			w.Header().Set("Content-Type", "application/manifest+json")
		}
		files.ServeHTTP(w, r)
	})
	return http.NewCrossOriginProtection().Handler(site) // other sites get no pass
}

// visitor returns who asks. Here it is a random cookie; in your site it is the user who has logged in.
func visitor(w http.ResponseWriter, r *http.Request) string {
	if cookie, err := r.Cookie("visitor"); err == nil && len(cookie.Value) == 26 {
		return "visitor-" + cookie.Value
	}
	id := rand.Text()
	http.SetCookie(w, &http.Cookie{Name: "visitor", Value: id, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode, MaxAge: 365 * 24 * 3600})
	return "visitor-" + id
}
