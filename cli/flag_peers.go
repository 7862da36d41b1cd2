package cli

import (
	"net"

	"github.com/spf13/pflag"

	"github.com/posta-tasks/posta/auth"
	"github.com/posta-tasks/posta/node"
)

// peerFlags are the flags about the other nodes that share the store.
type peerFlags struct {
	advertise string
	tokenFile string
	secure    *clientTLS
}

// addPeers defines the flags.
func addPeers(flags *pflag.FlagSet) *peerFlags {
	f := &peerFlags{}
	flags.StringVar(&f.advertise, "advertise", "", "the `address` at which the other nodes of the store reach this one; they pass direct runs on to it if they do not have the action or have no free slot")
	flags.StringVar(&f.tokenFile, "peer-token-file", "", "the `file` with the token that this node sends to other nodes, which ask for one with --token-file: TOKEN or NAME TOKEN")
	f.secure, _ = addClientTLS(flags, "peer-", "other nodes")
	return f
}

// Config returns how the node speaks to others. shared says that the store can have other nodes.
func (f *peerFlags) Config(shared bool) (config node.PeerConfig, err error) {
	if f.advertise != "" {
		if err := f.checkAdvertise(shared); err != nil {
			return config, err
		}
	}
	config.Advertise = f.advertise
	if f.tokenFile != "" {
		if config.Token, err = auth.LoadToken(f.tokenFile); err != nil {
			return config, fail(exitConfig, "the file has a TOKEN, or a NAME and a TOKEN, and only its owner and its group may read it", "%w", err)
		}
	}
	config.TLS, err = f.secure.Config()
	return config, err
}

// checkAdvertise refuses an address at which no other node could reach this one.
func (f *peerFlags) checkAdvertise(shared bool) error {
	if err := checkAddresses("advertise", f.advertise); err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(f.advertise)
	if err != nil || host == "" || port == "" || port == "0" {
		return misuse("write it as HOST:PORT, for example 10.0.0.7:9001", "--advertise is %q, which is no address that other nodes can connect to", f.advertise)
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		return misuse("name one address of this machine", "--advertise is %q, which stands for every address of a machine", f.advertise)
	}
	if !shared {
		return misuse("use --store postgres://…, which several nodes share, or leave out --advertise", "--advertise needs a store that nodes share, since they find each other there")
	}
	return nil
}
