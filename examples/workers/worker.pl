# A worker on a pipe: posta up --worker 'perl worker.pl'
use strict;
use warnings;
use JSON::PP;

$| = 1;
my $json = JSON::PP->new->utf8;

sub say_line { print $json->encode(shift), "\n" }

say_line({ id => "w", op => "work", actions => ["greet"] });
while (my $line = <STDIN>) {
    my $push = $json->decode($line);
    next if $push->{status} ne "running";
    my $payload = $push->{payload};
    if (ref $payload eq "HASH" && defined $payload->{name} && !ref $payload->{name}) {
        say_line({ op => "done", lease => $push->{lease}, data => "hello $payload->{name}" });
    } else {
        say_line({ op => "fail", lease => $push->{lease}, error => "there is no name", retry => JSON::PP::false });
    }
}
