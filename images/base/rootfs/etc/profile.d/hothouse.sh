# A login shell resets PATH; what `pip install` puts into the home folder stays within reach.
case ":$PATH:" in
*":$HOME/.local/bin:"*) ;;
*) PATH="$HOME/.local/bin:$PATH" ;;
esac
